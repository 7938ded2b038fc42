//! Recordings: written whole or not at all, and read with nothing taken on trust.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use whydrop_model::bundle::SCHEMA;
use whydrop_model::{Bundle, Observation, Phrase, text};

/// Largest recording that is read, in bytes. A recording of 200 namespaces takes about 20 MB.
const LARGEST: u64 = 512 << 20;

/// Writes `observation` to `path`, through a temporary file beside it: an interrupted write leaves the old file.
pub fn write(path: &Path, observation: Observation) -> Result<()> {
    let fail = |e: &std::io::Error| {
        Error::io(
            text!("write the recording {object}", "写入录制文件 {object}"),
            path.display().to_string(),
            e,
        )
    };
    let bundle = Bundle { schema: SCHEMA.into(), version: env!("CARGO_PKG_VERSION").into(), observation };
    let mut text = serde_json::to_vec_pretty(&bundle).map_err(|e| {
        Error::new(
            text!("encode the recording {object}", "编码录制文件 {object}"),
            path.display().to_string(),
            Phrase::same(e.to_string()),
        )
    })?;
    text.push(b'\n');
    let name = path.file_name().ok_or_else(|| {
        Error::new(
            text!("write the recording {object}", "写入录制文件 {object}"),
            path.display().to_string(),
            text!("the path does not name a file", "路径没有指明文件").phrase(),
        )
    })?;
    let mut part = name.to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(part);
    let written = File::create_new(&part).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&part, path)
    });
    written.map_err(|e| {
        // The write already failed; what matters is its error.
        let _ = fs::remove_file(&part);
        fail(&e)
    })
}

/// Reads a recording of any whydrop that writes the same schema.
pub fn read(path: &Path) -> Result<Observation> {
    let name = path.display().to_string();
    let fail = |e: &std::io::Error| {
        Error::io(text!("read the recording {object}", "读取录制文件 {object}"), &name, e)
    };
    let file = File::open(path).map_err(|e| fail(&e))?;
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(|e| fail(&e))?;
    if text.len() as u64 > LARGEST {
        return Err(Error::new(
            text!("read the recording {object}", "读取录制文件 {object}"),
            name,
            text!("it is larger than {bytes} bytes", "它大于 {bytes} 字节").fill(&[("bytes", &LARGEST)]),
        ));
    }
    parse(&text).map_err(|reason| {
        Error::new(text!("read the recording {object}", "读取录制文件 {object}"), name, reason).with_hint(
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
