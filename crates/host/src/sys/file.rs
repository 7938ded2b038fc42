//! Small text files of /proc.

use crate::error::{Error, Result};
use whydrop_model::text;

/// The whole file as text; bytes that are not UTF-8 become U+FFFD. Relative to the calling thread's namespace for
/// `/proc/thread-self/net` and `/proc/sys/net` (never use `/proc/self/net`: that is the main thread's).
pub fn read(path: &str) -> Result<String> {
    let bytes =
        std::fs::read(path).map_err(|e| Error::io(text!("read {object}", "读取 {object}"), path, &e))?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// An error for a file whose text is not what the kernel writes.
pub fn malformed(path: &str) -> Error {
    Error::new(
        text!("understand {object}", "解读 {object}"),
        path,
        text!("it has an unknown form", "格式未知").phrase(),
    )
}
