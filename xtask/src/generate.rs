//! `cargo xtask gen`: files that are made from the code and checked in.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// Writes the generated files; with `check` only compares them and fails if one is old.
///
/// # Errors
/// A file that cannot be written, or that is not current when checking.
pub fn generate(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let mut old: Vec<PathBuf> = Vec::new();
    for (path, text) in files()? {
        let path = root.join(path);
        if std::fs::read_to_string(&path).is_ok_and(|now| now == text) {
            continue;
        }
        if check {
            old.push(path);
            continue;
        }
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !old.is_empty() {
        bail!("not current, run `cargo xtask gen`: {old:?}");
    }
    Ok(())
}

/// Path in the repository and content of every generated file.
fn files() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut schema = Vec::new();
    whydrop_report::json::pretty(&whydrop_report::json::schema(), &mut schema)?;
    let mut files = vec![("docs/report.schema.json".into(), String::from_utf8(schema)?)];
    let mut causes: Vec<_> = whydrop_checks::causes().collect();
    causes.sort_by_key(|c| c.id);
    let mut list =
        "# The causes that whydrop can name\n\nWritten by `cargo xtask gen` from the rules.\n\n".to_owned();
    for cause in causes {
        list += &format!("- [`{}`]({}.md): {}. {}\n", cause.id, cause.id, cause.title.en, cause.title.zh);
        let path = Path::new("docs/causes").join(format!("{}.md", cause.id));
        files.push((path, whydrop_report::markdown::cause_page(cause)));
    }
    files.push(("docs/causes/README.md".into(), list));
    files.push(("crates/whydrop/src/licences.txt".into(), crate::licences::text()?));
    Ok(files)
}
