//! The types of the contract `whydrop.report.v1`, in the order of their keys.

use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use whydrop_model::probe::{Rtt, Share};
use whydrop_model::report::{Coverage, FlowsSeen, SufferingFlow};
use whydrop_model::{Applicability, Direction, Lang, NoteStatus, Severity, TargetKind, Verdict};

/// The whole report.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Document {
    /// `whydrop.report.v1`.
    pub schema: &'static str,
    /// What made it.
    pub tool: Tool,
    /// Language of the sentences: `en` or `zh`.
    #[schemars(with = "String")]
    pub lang: Lang,
    /// Where it was made.
    pub host: Host,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Length of the window in seconds.
    pub window_seconds: f64,
    /// What was asked about, then where probes started.
    pub targets: Vec<Target>,
    /// The answer.
    pub verdict: Verdict,
    /// Root causes only, the one that costs most first.
    pub findings: Vec<Finding>,
    /// Seen and judged innocent, latent or old.
    pub notes: Vec<Note>,
    /// Who suffers: conversations of programs in trouble, the worst first.
    pub flows: Vec<SufferingFlow>,
    /// How many conversations were looked at.
    pub flows_seen: FlowsSeen,
    /// What probes measured.
    pub probes: Vec<Probe>,
    /// Every lost packet, charged once.
    pub ledger: Ledger,
    /// What was looked at, and what could not be.
    pub coverage: Vec<Coverage>,
    /// What was changed on the machine before and in the window, oldest first; only where somebody listened, as `watch`
    /// does.
    pub history: Vec<Change>,
}

/// The program.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Tool {
    /// `whydrop`.
    pub name: &'static str,
    /// Its version.
    pub version: String,
}

/// The machine.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Host {
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
}

/// A namespace that was observed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Target {
    /// Canonical id: `netns:web`.
    pub id: String,
    /// How it was named.
    pub kind: TargetKind,
    /// Short name.
    pub name: String,
    /// Inode of the network namespace.
    pub netns_inode: u64,
    /// A process inside, if known.
    pub pid: Option<u32>,
    /// Container id, if it is one.
    pub container: Option<String>,
    /// Pod, if it is one's.
    pub pod: Option<whydrop_model::Pod>,
    /// The containers in it: those of a pod share one namespace.
    pub containers: Vec<Tenant>,
    /// `target` if it was asked about, `vantage` if only probes started there, `surrounding` if it is joined to a target.
    pub role: String,
}

/// A container in a namespace.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Tenant {
    /// Who runs it.
    pub engine: TargetKind,
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Image, if known.
    pub image: Option<String>,
}

/// A root cause that costs packets now.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Finding {
    /// `f1`, `f2` …: the number of the cause in the text.
    pub id: String,
    /// Cause id.
    pub cause: String,
    /// First part of the cause id.
    pub layer: String,
    /// Stage of the packet's way.
    pub stage: String,
    /// Which way the lost packets went, seen from the target.
    pub direction: Option<Direction>,
    /// Target id.
    pub target: String,
    /// The thing to change.
    pub subject: String,
    /// How bad.
    pub severity: Severity,
    /// 0..1.
    pub confidence: f64,
    /// Packets lost in the window; null if they cannot be counted.
    pub packets_lost: Option<u64>,
    /// Which counter gave `packets_lost`.
    pub counted_by: Option<String>,
    /// One sentence.
    pub summary: String,
    /// What the cause means and why it loses packets.
    pub explanation: String,
    /// What acts, verbatim: the rule's text, the qdisc's line.
    pub exhibit: Option<String>,
    /// Witnesses.
    pub evidence: Vec<Evidence>,
    /// Consequences folded under it.
    pub explains: Vec<String>,
    /// Fixes, the smallest first.
    pub fixes: Vec<Fix>,
}

/// One witness.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Evidence {
    /// What it says.
    pub claim: String,
    /// Interface that gave it.
    pub source: String,
    /// Shell line that shows the same from where whydrop was started; null if there is none, or none fit to be pasted.
    pub reproduce: Option<String>,
    /// Why there is a line that is not shown: a name from outside that the tool would read as something else.
    pub not_shown: Option<String>,
    /// True if it speaks for the finding.
    pub supports: bool,
}

/// A change that ends a loss.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Fix {
    /// What it does, as an order.
    pub title: String,
    /// How it may be applied.
    pub applicability: Applicability,
    /// To be run in order; empty if only a person can do it, or if they are not shown.
    pub commands: Vec<Command>,
    /// The way back, in order; empty if it is not known, or not before the commands have run.
    pub undo: Vec<Command>,
    /// Why commands or the way back are not shown although whydrop can do it: a name from outside that the tool would
    /// read as something else, or a handle that the kernel gives only later.
    pub not_shown: Option<String>,
    /// How to keep it after a reboot or restart.
    pub persist: Option<String>,
    /// What to think of first.
    pub caution: Option<String>,
}

/// A command that runs as it stands inside the namespace of its target.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Command {
    /// Target id.
    pub target: String,
    /// Program and arguments; no shell is needed.
    pub argv: Vec<String>,
}

/// Something seen and judged innocent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Note {
    /// Cause id, if it has one.
    pub cause: Option<String>,
    /// Target id.
    pub target: String,
    /// What it is about.
    pub subject: String,
    /// Why it is no finding.
    pub status: NoteStatus,
    /// One sentence.
    pub text: String,
}

/// Something that was changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Change {
    /// RFC 3339, UTC.
    pub time: String,
    /// The kernel announced it at this time; else a look that ended then found it.
    pub announced: bool,
    /// Of what a look found: the earliest time at which it may have been made; null where the kernel announced it.
    pub not_before: Option<String>,
    /// Target id, or the word of a container.
    pub target: String,
    /// One sentence.
    pub what: String,
    /// Who did it; null if the kernel does not tell.
    pub by: Option<Doer>,
}

/// A process that changed something.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Doer {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
}

/// What one probe URL measured: `transmitted = received + late + lost`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Probe {
    /// The URL as given.
    pub url: String,
    /// Target id of the namespace where it started.
    pub from: String,
    /// Address that was probed, once resolved.
    pub address: Option<String>,
    /// `syn`, `connect`, `icmp`, `udp`, `http`, `pmtu`, `path`.
    pub method: String,
    /// Probes that left.
    pub transmitted: u64,
    /// Answered in time; a refusal is an answer.
    pub received: u64,
    /// Without any valid reply.
    pub lost: u64,
    /// First answered after the deadline.
    pub late: u64,
    /// Further replies to a probe already counted.
    pub duplicates: u64,
    /// Never left: the send failed here.
    pub not_sent: u64,
    /// Of the received: refused.
    pub refused: u64,
    /// (lost + late) / transmitted; null if nothing was transmitted.
    pub loss: Option<f64>,
    /// 95 % interval of `loss`.
    pub loss_ci95: Option<[f64; 2]>,
    /// Milliseconds of answers in time; null without any.
    pub rtt_ms: Option<Rtt>,
    /// Estimated loss of the request.
    pub forward: Option<Share>,
    /// Estimated loss of the answer.
    #[serde(rename = "return")]
    pub reverse: Option<Share>,
    /// Where lost probes died.
    pub fate: Vec<Fate>,
    /// Failed sends by errno name.
    pub send_errors: BTreeMap<String, u64>,
    /// ICMP errors that came back.
    pub icmp_errors: BTreeMap<String, u64>,
    /// Phases of an HTTP request.
    pub http: Option<Http>,
    /// Path MTU.
    pub pmtu: Option<Pmtu>,
    /// Of the lost: no device of the namespace ever saw the packet leave; null if nobody watched.
    pub never_left: Option<u64>,
    /// Of the lost: the answer reached the namespace and died in it; null if nobody watched.
    pub dropped_on_return: Option<u64>,
    /// Of the lost: answered, but only from another address or port than the probed one.
    pub answered_elsewhere: u64,
    /// Who answered in place of what was probed.
    pub elsewhere: Vec<Elsewhere>,
    /// Still open when the run was ended early; in no other count.
    pub undecided: u64,
    /// RFC 3550 jitter of the answers in time, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Longest wait of an answer on this machine, in milliseconds; not part of any round-trip time.
    pub host_delay_ms: Option<f64>,
    /// How losses cluster.
    pub bursts: Option<Bursts>,
    /// Loss for each source port, if several were used.
    pub flows: Vec<Flow>,
    /// Which segments of a connection pass, if that was asked for.
    pub sizes: Option<Sizes>,
    /// Hops of a path.
    pub hops: Vec<Hop>,
    /// What the pattern means, in words.
    pub notes: Vec<String>,
}

pub use whydrop_model::Ledger;
pub use whydrop_model::probe::{Bursts, Elsewhere, Fate, Flow, Hop, Http, Pmtu, Sizes};
