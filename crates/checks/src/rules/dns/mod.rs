//! Name resolution.

pub mod server_unreachable;
#[cfg(test)]
mod tests;
