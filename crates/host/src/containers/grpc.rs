//! gRPC over a Unix socket: unary calls, a deadline for all of them, and a limit for every answer.
//!
//! HTTP/2 is h2's, the messages are prost's; what gRPC adds is five bytes before a message and a status behind it.

pub use super::http::Trouble;
use super::http::{LARGEST, too_large};
use bytes::Bytes;
use prost::Message;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use whydrop_model::shell::sanitize;
use whydrop_model::text;

/// Bytes of all header fields of one answer.
const HEADERS: u32 = 16 << 10;
/// Bytes that may be on their way.
const WINDOW: u32 = 1 << 20;
/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Characters of an engine's words that are shown.
const WORDS: usize = 200;

/// A connection to an engine.
#[derive(Clone, Debug)]
pub struct Client(h2::client::SendRequest<Bytes>);

/// Connects, and does `work`, which takes no longer than `limit` with all of its calls.
///
/// # Errors
/// If nobody listens there, or the answer is late, larger than is read, or no gRPC.
pub fn session<T, F>(socket: &Path, limit: Duration, work: impl FnOnce(Client) -> F) -> Result<T, Trouble>
where
    F: Future<Output = Result<T, Trouble>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connected = async {
        let stream = UnixStream::connect(socket).await?;
        let mut builder = h2::client::Builder::new();
        builder.enable_push(false).max_header_list_size(HEADERS);
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (client, connection) = builder.handshake(stream).await.map_err(broken)?;
        // What ends the connection ends the calls on it, too, with the same reason.
        tokio::spawn(async move { connection.await.ok() });
        work(Client(client)).await
    };
    let outcome = runtime.block_on(async { tokio::time::timeout(limit, connected).await });
    outcome.unwrap_or(Err(Trouble::Late))
}

fn broken(error: h2::Error) -> Trouble {
    match error.is_io().then(|| error.get_io().map(io::Error::kind)).flatten() {
        Some(kind) => Trouble::Io(kind.into()),
        None => Trouble::Answer(
            text!("the answer is not HTTP/2: {error}", "应答不是 HTTP/2：{error}").fill(&[("error", &error)]),
        ),
    }
}

fn malformed() -> Trouble {
    Trouble::Answer(text!("the answer is not gRPC", "应答不是 gRPC").phrase())
}

impl Client {
    /// One unary call; `method` is `/package.Service/Method`, `metadata` are header fields.
    ///
    /// # Errors
    /// As for [`session`], and if the call itself fails: its status and message.
    pub async fn call<A: Message, B: Message + Default>(
        &self,
        method: &str,
        metadata: &[(&str, &str)],
        ask: &A,
    ) -> Result<B, Trouble> {
        let mut request = http::Request::post(format!("http://localhost{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(|_| malformed())?;
        let mut client = self.0.clone().ready().await.map_err(broken)?;
        let (response, mut body) = client.send_request(request, false).map_err(broken)?;
        body.send_data(framed(ask), true).map_err(broken)?;
        let response = response.await.map_err(broken)?;
        if response.status() != http::StatusCode::OK {
            let said = text!("it answers {status}", "它应答 {status}");
            return Err(Trouble::Answer(said.fill(&[("status", &response.status().as_u16())])));
        }
        // A call that fails at once has its status here, and no message.
        refusal(response.headers())?;
        let mut body = response.into_body();
        let mut bytes = vec![];
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(broken)?;
            body.flow_control().release_capacity(piece.len()).map_err(broken)?;
            if bytes.len() + piece.len() > LARGEST {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        if let Some(trailers) = body.trailers().await.map_err(broken)? {
            refusal(&trailers)?;
        }
        let message = unframed(&bytes).ok_or_else(malformed)?;
        B::decode(message).map_err(|_| malformed())
    }
}

fn framed(message: &impl Message) -> Bytes {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), &body].concat().into()
}

/// The one message of an answer; none if it is compressed or not whole.
fn unframed(bytes: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = bytes.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix.get(1..)?.try_into().ok()?);
    (prefix.first() == Some(&0) && usize::try_from(length) == Ok(message.len())).then_some(message)
}

/// An error if the call failed.
fn refusal(headers: &http::HeaderMap) -> Result<(), Trouble> {
    let field = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match field("grpc-status") {
        Some(status) if status != "0" => {
            let words = sanitize(&field("grpc-message").unwrap_or_default(), WORDS);
            let said =
                text!("it answers gRPC status {status}: {words}", "它应答 gRPC 状态 {status}：{words}");
            Err(Trouble::Answer(said.fill(&[("status", &sanitize(&status, WORDS)), ("words", &words)])))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_whole_message_and_nothing_else() {
        assert_eq!(unframed(&[0, 0, 0, 0, 2, 7, 8]), Some(&[7, 8][..]));
        for bad in
            [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 1, 7], &[0, 0, 0, 0, 2, 7], &[0, 255, 255, 255, 255]]
        {
            assert_eq!(unframed(bad), None, "{bad:?}");
        }
        assert_eq!(&framed(&"ab".to_owned())[..], [0, 0, 0, 0, 4, 10, 2, b'a', b'b']);
    }
}
