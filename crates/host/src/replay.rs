//! Recordings: written whole or not at all, and read with nothing taken on trust.

use crate::error::{Error, Result};
use crate::output;
use crate::sys::file;
use std::path::Path;
use whydrop_model::bundle::SCHEMA;
use whydrop_model::{Bundle, Observation, Phrase, text};

/// Largest recording that is read, in bytes: one of 200 namespaces takes about 20 MB, and decoded it takes several
/// times its size.
const LARGEST: usize = 64 << 20;

/// Writes `observation` to `path`, readable by the owner only (see [`output::private`]), and gives it back.
pub fn write(path: &Path, observation: Observation) -> Result<Observation> {
    let bundle = Bundle { schema: SCHEMA.into(), version: env!("CARGO_PKG_VERSION").into(), observation };
    let mut text = serde_json::to_vec_pretty(&bundle).map_err(|e| {
        Error::new(
            text!("encode the recording {object}", "编码录制文件 {object}"),
            path.display().to_string(),
            Phrase::same(e.to_string()),
        )
    })?;
    text.push(b'\n');
    output::private(path, &text)?;
    Ok(bundle.observation)
}

/// The bytes of a recording, nothing of them looked at.
pub fn load(path: &Path) -> Result<Vec<u8>> {
    file::bounded(path, LARGEST)
}

/// Decodes a recording of any whydrop that writes the same schema; `path` is only named.
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Observation> {
    parse(bytes).map_err(|reason| {
        let read = text!("read the recording {object}", "读取录制文件 {object}");
        Error::new(read, path.display().to_string(), reason).with_hint(
            text!(
                "a recording is what `whydrop record -o FILE` writes",
                "录制文件由 `whydrop record -o FILE` 生成"
            )
            .phrase(),
        )
    })
}

/// Decodes a recording; the reason of a refusal in words.
pub fn parse(text: &[u8]) -> std::result::Result<Observation, Phrase> {
    #[derive(serde::Deserialize)]
    struct Head {
        schema: String,
    }
    let head: Head = serde_json::from_slice(text).map_err(|e| {
        text!("it is no recording: {error}", "它不是录制文件：{error}").fill(&[("error", &e)])
    })?;
    if head.schema != SCHEMA {
        let seen = whydrop_model::shell::sanitize(&head.schema, 60);
        let why = text!(
            "its schema is \"{seen}\", this whydrop reads \"{known}\"",
            "它的 schema 是 \"{seen}\"，此 whydrop 只读取 \"{known}\""
        );
        return Err(why.fill(&[("seen", &seen), ("known", &SCHEMA)]));
    }
    let bundle: Bundle = serde_json::from_slice(text)
        .map_err(|e| text!("it is damaged: {error}", "它已损坏：{error}").fill(&[("error", &e)]))?;
    Ok(bundle.observation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_recording_and_says_why() {
        for (text, word) in [
            ("", "no recording"),
            ("[1]", "no recording"),
            ("{\"schema\":\"x\\u001b\"}", "schema"),
            ("{\"schema\":\"whydrop.record.v1\"}", "damaged"),
        ] {
            let reason = parse(text.as_bytes()).unwrap_err().en;
            assert!(reason.contains(word) && !reason.contains('\x1b'), "{reason}");
        }
    }
}
