//! What moved and means no harm.

use crate::case::Space;
use crate::rule::Suspect;
use whydrop_model::{Note, NoteStatus, Phrase, Text, text};

const PROBER: Text = text!(
    "{n} half-open connections were reset by whydrop's own SYN probes",
    "{n} 个半连接被 whydrop 自己的 SYN 探测重置"
);

/// Innocent movements of one namespace.
pub fn of(space: Space<'_>, _suspects: &[Suspect]) -> Vec<Note> {
    let mut notes = vec![];
    let mut benign = |subject: &str, text: Phrase| {
        notes.push(Note {
            cause: None,
            target: space.target().id.clone(),
            subject: subject.to_owned(),
            status: NoteStatus::Benign,
            text,
        });
    };
    let embryonic = space.mib("TcpExt.EmbryonicRsts");
    if embryonic > 0 && space.case.ways.iter().any(|way| way.probe.method == "syn") {
        benign("TcpExt.EmbryonicRsts", PROBER.fill(&[("n", &embryonic)]));
    }
    notes
}
