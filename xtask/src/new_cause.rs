//! `cargo xtask new-cause ID`: the file of a new cause, which does not pass clippy until it is filled in.

use crate::process::workspace;
use anyhow::{Context, Result, bail};

const TEMPLATE: &str = include_str!("cause.template");

/// Writes `crates/checks/src/rules/<layer>/<name>.rs` for the id `layer.name`.
pub fn run(id: &str) -> Result<()> {
    let (layer, name) = parts(id)?;
    let directory = workspace().join("crates/checks/src/rules").join(layer);
    let file = directory.join(format!("{name}.rs"));
    if file.exists() {
        bail!("{} exists", file.display());
    }
    std::fs::create_dir_all(&directory)?;
    std::fs::write(&file, TEMPLATE.replace("@ID@", id))
        .with_context(|| format!("writing {}", file.display()))?;
    println!("wrote crates/checks/src/rules/{layer}/{name}.rs");
    println!(
        "now: name it in rules/{layer}/mod.rs and in registry.rs, fill it in, and give the lab a fault for it"
    );
    Ok(())
}

/// Layer and name of an id: two words of small letters, digits and underscores.
fn parts(id: &str) -> Result<(&str, &str)> {
    let word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    match id.split_once('.') {
        Some((layer, name)) if word(layer) && word(name) => Ok((layer, name)),
        _ => bail!("{id} is no cause id; they look like netfilter.drop_rule"),
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn an_id_is_two_plain_words() {
        assert_eq!(parts("tcp.accept_queue_overflow").unwrap(), ("tcp", "accept_queue_overflow"));
        for bad in ["tcp", "tcp.", ".x", "Tcp.x", "a.b.c", "../a.b", "a.b/c"] {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }
}
