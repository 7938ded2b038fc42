//! Reports made by hand, rendered: their words as a whole where they matter, and the properties that hold for all.

mod cases;
mod explain;
mod html;
mod json;
mod markdown;
mod people;
mod text;
