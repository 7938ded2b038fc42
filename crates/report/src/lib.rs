//! Renderers: a [`Report`](whydrop_model::Report) as text, JSON and Markdown, the catalogue in words, errors for people.
//!
//! Pure: everything writes into a [`std::io::Write`], nothing looks at the machine, the clock or the environment.
#![forbid(unsafe_code)]

pub mod course;
pub mod error;
pub mod explain;
pub mod html;
pub mod json;
pub mod layout;
pub mod markdown;
pub mod nearest;
mod number;
pub mod probe;
pub mod self_check;
pub mod stat;
pub mod targets;
pub mod text;
pub mod watch;
mod way;
pub mod words;
