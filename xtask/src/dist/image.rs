//! The container image: the program, its licences, and nothing else.
//!
//! One tar that is at once an OCI layout (podman, ctr, skopeo) and what `docker load` reads (all versions), written here: no
//! engine and no registry takes part.

use super::{Platform, Release};
use crate::process::{fresh_directory, output, workspace};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name that engines show.
pub const NAME: &str = "whydrop";

/// Writes the image of a program.
pub fn pack(program: &Path, platform: &Platform, release: &Release, to: &Path) -> Result<PathBuf> {
    let work = fresh_directory(&to.join("work").join(format!("image-{}", platform.name)))?;
    let root = fresh_directory(&work.join("root"))?;
    super::stage::install(program, &root.join("whydrop"), 0o755)?;
    super::stage::install(&workspace().join(super::stage::LICENCES), &root.join("LICENCES"), 0o644)?;
    // Where what is outside may be put, and where a report may be written.
    for folder in ["tmp", "run", "proc", "sys", "dev", "etc", "var/lib"] {
        fs::create_dir_all(root.join(folder))?;
    }
    release.date(&root)?;
    let layout = fresh_directory(&work.join("layout"))?;
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = work.join("layer.tar");
    output(release.tar().arg("--file").arg(&layer).arg("--directory").arg(&root).arg("."))?;
    let layer = Blob::of_file(&layer, &blobs)?;

    let created = output(
        Command::new("date")
            .args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", "--date"])
            .arg(format!("@{}", release.epoch)),
    )?;
    let title = "org.opencontainers.image";
    let labels = json!({
        format!("{title}.title"): "whydrop",
        format!("{title}.version"): release.version,
        format!("{title}.licenses"): "MIT OR Apache-2.0",
        format!("{title}.description"): "Where are my packets being lost, why, and what ends it?",
    });
    let config = json!({
        "architecture": platform.debian,
        "os": "linux",
        "created": created.trim(),
        "config": {
            "Entrypoint": ["/whydrop"],
            "Env": ["PATH=/", "LC_ALL=C.UTF-8"],
            "WorkingDir": "/",
            "Labels": labels,
        },
        // The layer is not compressed, so its name is also that of its content.
        "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
        "history": [{ "created": created.trim(), "created_by": "cargo xtask image" }],
    });
    let config = Blob::of_json(&config, &blobs)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.described("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.described("application/vnd.oci.image.layer.v1.tar")],
    });
    let manifest = Blob::of_json(&manifest, &blobs)?;
    let tag = format!("{NAME}:{}", release.version);
    let mut described = manifest.described("application/vnd.oci.image.manifest.v1+json");
    described["platform"] = json!({ "architecture": platform.debian, "os": "linux" });
    described["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/library/{tag}"),
        format!("{title}.ref.name"): release.version,
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described],
    });
    let docker = json!([{ "Config": config.path(), "RepoTags": [tag], "Layers": [layer.path()] }]);
    for (name, value) in [
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
        ("index.json", index),
        ("manifest.json", docker),
    ] {
        fs::write(layout.join(name), serde_json::to_vec(&value)?)?;
    }
    release.date(&layout)?;
    let image = to.join(format!("whydrop-{}-{}.image.tar", release.version, platform.name));
    output(release.tar().arg("--file").arg(&image).arg("--directory").arg(&layout).args([
        "oci-layout",
        "index.json",
        "manifest.json",
        "blobs",
    ]))?;
    Ok(image)
}

/// A file that is named by its sum.
struct Blob {
    sum: String,
    size: u64,
}

impl Blob {
    /// Moves a file to where its sum says.
    fn of_file(path: &Path, blobs: &Path) -> Result<Self> {
        let sum = output(Command::new("sha256sum").arg("--binary").arg(path))?;
        let sum = sum.split_whitespace().next().context("sha256sum writes a sum")?.to_owned();
        let size = path.metadata()?.len();
        fs::rename(path, blobs.join(&sum))?;
        Ok(Self { sum, size })
    }

    fn of_json(value: &Value, blobs: &Path) -> Result<Self> {
        let path = blobs.join("new");
        fs::write(&path, serde_json::to_vec(value)?)?;
        Self::of_file(&path, blobs)
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.sum)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.sum)
    }

    fn described(&self, kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": self.digest(), "size": self.size })
    }
}
