//! Which queues dropped in the window. A classful parent counts the drops of its children: each is charged once, to
//! the narrowest.

use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::{fix, manual};
use crate::loss::Loss;
use crate::rule::{Judgement, fill_words};
use whydrop_model::action::{Action, QdiscSpec, TC_INGRESS, TC_ROOT, tc_handle};
use whydrop_model::delta::Change;
use whydrop_model::snapshot::{Class as TcClass, Qdisc, QdiscOptions};
use whydrop_model::{Cause, Direction, Fix, NoteStatus, Phrase, Snapshot, Text, text};

/// A fq_codel or codel queue shorter than this (default 10240 and 1000 packets) drops by its length, not by its delay.
const SHORT_QUEUE: u32 = 500;

/// Of its rate a shaper is used up from this share on: TCP that loses keeps some way below.
const USED_UP: f64 = 0.5;

const ROSE: Text = text!("qdisc {qdisc} dropped +{n}", "队列规则 {qdisc} dropped +{n}");
const CLASS_ROSE: Text = text!("class {class} dropped +{n}", "类 {class} dropped +{n}");
const LOSSY: Text = text!("its options name a loss of {percent} %", "其选项设置了 {percent}% 的丢包");
const DELETE: Text = text!("delete the qdisc", "删除该队列规则");
const TREE: Text = text!(
    "raise the rate or the queue of the class that drops (tc class change, tc qdisc change); deleting the qdisc would take its whole tree along, and nothing could put that back",
    "提高丢包的类的速率或队列长度（tc class change、tc qdisc change）；删除该队列规则会连同整棵树一起删除，且无法恢复"
);
const LONGER: Text = text!(
    "make the queue longer: tc qdisc replace dev {dev} parent CLASS pfifo limit 1000, or ip link set {dev} txqueuelen 1000 and the class anew",
    "加长队列：tc qdisc replace dev {dev} parent CLASS pfifo limit 1000，或 ip link set {dev} txqueuelen 1000 并重建该类"
);
const WITHOUT_LIMIT: Text = text!("the interface then sends as fast as it can", "此后该接口将不再限速");
const OLD: Text = text!(
    "{kind} dropped {n} {n|packet|packets} before the window, none in it",
    "{kind} 在观察窗口之前丢弃了 {n} 个包，窗口内没有"
);
const LATENT: Text = text!(
    "{kind} would drop {share}of what is sent; nothing met it",
    "{kind} 会丢弃{share}待发包；窗口内没有流量经过"
);

/// Kinds of dropping queues; each is a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// netem with a loss.
    Netem,
    /// Anything that shapes.
    Shaper,
    /// A queue that is too short.
    Limit,
    /// blackhole.
    Blackhole,
}

/// Judges one kind.
pub fn judge_class<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    class: Class,
    summary: Text,
) -> Judgement<'a> {
    let mut judgement = Judgement::default();
    for qdisc in space.after.qdiscs.iter() {
        let Some(limiter) = limiter_of(space, qdisc, class) else { continue };
        let own = own_drops(space, qdisc);
        if own == Some(0) {
            idle(space, cause, qdisc, limiter, &mut judgement);
        }
        let dropping = Dropping { space, qdisc, limiter, class, own };
        judgement.culprits.push(dropping.culprit(cause, summary));
    }
    judgement
}

/// Says of a queue that dropped nothing in the window what it would do, or did before.
fn idle(space: Space<'_>, cause: &Cause, qdisc: &Qdisc, limiter: &Qdisc, judgement: &mut Judgement<'_>) {
    let total = qdisc.stats.drops;
    let subject = format!("{} qdisc {}", space.after.link_name(qdisc.link), qdisc.kind);
    if lossy(limiter) && std::ptr::eq(limiter, qdisc) {
        let words = [("kind", Phrase::same(qdisc.kind.as_str())), ("share", share_of(&limiter.options))];
        let text = fill_words(LATENT, &words.each_ref().map(|(name, phrase)| (*name, phrase)));
        judgement.note(space, cause, NoteStatus::Latent, &subject, text);
    } else if total > 0 && children_drops(space, qdisc) == 0 {
        let text = OLD.fill(&[("kind", &qdisc.kind), ("n", &total)]);
        judgement.note(space, cause, NoteStatus::Old, &subject, text);
    }
}

/// A queue that dropped, or of which nobody could read whether it did.
#[derive(Clone, Copy)]
struct Dropping<'a> {
    space: Space<'a>,
    qdisc: &'a Qdisc,
    /// The qdisc at fault: itself, or the shaper above it.
    limiter: &'a Qdisc,
    class: Class,
    /// Drops of its own in the window, if they could be read.
    own: Option<u64>,
}

impl<'a> Dropping<'a> {
    fn culprit(self, cause: &'static Cause, summary: Text) -> Culprit<'a> {
        let Self { space, qdisc, limiter, own, .. } = self;
        let dev = space.after.link_name(qdisc.link);
        let culprit =
            Culprit::new(space, cause, "qdisc.transmit", Scope::Link, subject(space, &dev, qdisc, limiter))
                .direction(Direction::Transmit)
                .on(qdisc.link)
                .takes(move |loss| self.takes(loss))
                .tell(move |_| self.story(summary));
        match own {
            Some(own) => culprit
                .meter(own, Count::Exact, "qdisc drops")
                .harms(move |flow| sure(flow.suffers() && flow.leaves_by(space, qdisc.link))),
            None => culprit,
        }
    }

    fn takes(self, loss: &Loss<'a>) -> Fit {
        let Self { space, qdisc, limiter, class, .. } = self;
        if loss.is_imagined_at(space, qdisc.link) {
            return match (class, &limiter.options) {
                (Class::Blackhole, _) => Fit::Yes,
                (_, QdiscOptions::Netem { loss, .. }) if *loss >= 1.0 => Fit::Yes,
                _ => Fit::Maybe,
            };
        }
        match loss.link {
            Some(link) if !loss.is_in(space) || link != qdisc.link => Fit::No,
            Some(_) if loss.is_at_stage("qdisc") => Fit::Yes,
            None if loss.is_in(space) && loss.is_at_stage("qdisc") => Fit::Maybe,
            // Some kernels call a drop inside of a queue so, too (tcf_kfree_skb_list()).
            Some(_) if loss.is_at_stage("tc.egress") => Fit::Maybe,
            _ => Fit::No,
        }
    }

    fn story(self, summary: Text) -> Story {
        let Self { space, qdisc, limiter, class, own } = self;
        let dev = space.after.link_name(qdisc.link);
        let words = [
            ("dev", Phrase::same(dev.as_str())),
            ("kind", Phrase::same(limiter.kind.as_str())),
            ("share", share_of(&limiter.options)),
        ];
        let show = ["tc", "-s", "qdisc", "show", "dev", &dev];
        let handle = format!("{} {}", qdisc.kind, tc_handle(qdisc.handle));
        let mut story =
            Story::new(fill_words(summary, &words.each_ref().map(|(name, phrase)| (*name, phrase))))
                .exhibit(line(space, limiter))
                .fix(delete(space, &dev, limiter, class));
        if let Some(own) = own.filter(|own| *own > 0) {
            story = story.evidence(ROSE.fill(&[("qdisc", &handle), ("n", &own)]), "qdisc counter", &show);
        }
        if let QdiscOptions::Netem { loss, .. } = limiter.options
            && loss > 0.0
        {
            let percent = (loss * 1000.0).round() / 10.0;
            story = story.evidence(LOSSY.fill(&[("percent", &percent)]), "qdisc options", &show);
        }
        if let Some((class, n)) = dropping_class(space, qdisc) {
            let name = tc_handle(class);
            let show = ["tc", "-s", "class", "show", "dev", &dev];
            story = story.evidence(CLASS_ROSE.fill(&[("class", &name), ("n", &n)]), "class counter", &show);
        }
        story
    }
}

/// The qdisc at fault for the drops of `qdisc`, if it is of this kind: itself, or the shaper above it.
fn limiter_of<'a>(space: Space<'a>, qdisc: &'a Qdisc, class: Class) -> Option<&'a Qdisc> {
    if qdisc.parent == TC_INGRESS {
        return None;
    }
    let mut at = qdisc;
    // A plain queue inside a shaper overflows because the shaper is slow.
    while let Some(parent) = parent_of(space, at).filter(|p| shapes(p) && is_used_up(space, p, at)) {
        at = parent;
    }
    let within_rate =
        || dropping_class(space, at).is_some_and(|(class, _)| !class_is_used_up(space, at.link, class));
    let kind = match (&at.options, at.kind.as_str()) {
        // The queue inside of a class is none of those that are listed; it is as long as txqueuelen says.
        (_, "htb" | "hfsc") if std::ptr::eq(at, qdisc) && within_rate() => Class::Limit,
        (QdiscOptions::Netem { .. }, _) if lossy(at) => Class::Netem,
        (QdiscOptions::Netem { rate, .. }, _) if *rate > 0 => Class::Shaper,
        (QdiscOptions::Netem { .. }, _) => Class::Limit,
        (_, "blackhole") => Class::Blackhole,
        (QdiscOptions::FqCodel { limit, .. }, _) if *limit < SHORT_QUEUE => Class::Limit,
        (
            _,
            "pfifo" | "bfifo" | "pfifo_fast" | "pfifo_head_drop" | "sfq" | "fq" | "prio" | "mq" | "noqueue"
            | "plug" | "etf" | "mqprio" | "multiq" | "skbprio",
        ) => Class::Limit,
        (_, "clsact" | "ingress") => return None,
        _ => Class::Shaper,
    };
    (kind == class).then_some(at)
}

/// True if a shaper sent about as much as it may: a queue inside of one that did not is short by itself.
fn is_used_up(space: Space<'_>, shaper: &Qdisc, inner: &Qdisc) -> bool {
    match shaper.options {
        QdiscOptions::Tbf { rate, .. } | QdiscOptions::Netem { rate, .. } if rate > 0 => {
            let mut old = space.before.qdiscs.iter();
            let same =
                |q: &&Qdisc| (q.link, q.handle, q.parent) == (shaper.link, shaper.handle, shaper.parent);
            uses_up(space, rate, old.find(same).map(|q| q.stats.bytes), shaper.stats.bytes)
        }
        _ => class_is_used_up(space, inner.link, inner.parent),
    }
}

/// The same of a class of a shaper; true if it has no rate of its own.
fn class_is_used_up(space: Space<'_>, link: u32, handle: u32) -> bool {
    let class = |snapshot: &Snapshot| {
        let found = snapshot.classes.iter().find(|c| (c.link, c.handle) == (link, handle));
        found.map(|class| (class.ceil.or(class.rate), class.stats.bytes))
    };
    match class(space.after) {
        Some((Some(rate), bytes)) => uses_up(space, rate, class(space.before).map(|(_, bytes)| bytes), bytes),
        _ => true,
    }
}

fn uses_up(space: Space<'_>, rate: u64, before: Option<u64>, after: u64) -> bool {
    let Some(before) = before else { return true };
    let seconds = space.case.observation.window_ns as f64 / 1e9;
    Change::of(Some(before), Some(after)).risen() as f64 >= USED_UP * rate as f64 * seconds
}

/// True for a netem that is set to lose or damage packets.
fn lossy(qdisc: &Qdisc) -> bool {
    match &qdisc.options {
        QdiscOptions::Netem { loss, corrupt, model, .. } => *loss > 0.0 || *corrupt > 0.0 || model.is_some(),
        _ => false,
    }
}

pub(super) fn shapes(qdisc: &Qdisc) -> bool {
    match &qdisc.options {
        QdiscOptions::Netem { .. } => true,
        _ => matches!(qdisc.kind.as_str(), "tbf" | "htb" | "hfsc" | "cbq" | "cbs" | "ets" | "taprio"),
    }
}

/// Drops of a qdisc that none of its children counted; none if its counter was not read before the window.
fn own_drops(space: Space<'_>, qdisc: &Qdisc) -> Option<u64> {
    let read = space.before.qdiscs.is_present();
    read.then(|| space.qdisc_drops(qdisc).saturating_sub(children_drops(space, qdisc)))
}

fn children_drops(space: Space<'_>, qdisc: &Qdisc) -> u64 {
    let children = space.after.qdiscs.iter().filter(|q| is_child(q, qdisc));
    children.map(|child| space.qdisc_drops(child)).sum()
}

pub(super) fn parent_of<'a>(space: Space<'a>, qdisc: &Qdisc) -> Option<&'a Qdisc> {
    space.after.qdiscs.iter().find(|p| is_child(qdisc, p))
}

/// A class id holds the handle of its qdisc in the upper half. Handle 0 belongs to the kernel's own default queues,
/// whose parents (mq) have handle 0 as well.
fn is_child(child: &Qdisc, parent: &Qdisc) -> bool {
    child.link == parent.link
        && !matches!(child.parent, TC_ROOT | TC_INGRESS)
        && child.parent >> 16 == parent.handle >> 16
        && !std::ptr::eq(child, parent)
        && (child.handle, child.parent) != (parent.handle, parent.parent)
}

/// The class of a classful qdisc that dropped most, with its drops.
fn dropping_class(space: Space<'_>, qdisc: &Qdisc) -> Option<(u32, u64)> {
    let rise = |class: &TcClass| {
        let before = space.before.classes.iter().find(|c| (c.link, c.handle) == (class.link, class.handle));
        Change::of_u32(before.map(|c| c.stats.drops), Some(class.stats.drops)).risen()
    };
    let of_qdisc = |c: &&TcClass| c.link == qdisc.link && c.handle >> 16 == qdisc.handle >> 16;
    let classes = space.after.classes.iter().filter(of_qdisc).map(|c| (c.handle, rise(c)));
    classes.filter(|(_, n)| *n > 0).max_by_key(|(_, n)| *n)
}

fn subject(space: Space<'_>, dev: &str, qdisc: &Qdisc, limiter: &Qdisc) -> String {
    let inner = match std::ptr::eq(qdisc, limiter) {
        true => dropping_class(space, qdisc).map(|(class, _)| tc_handle(class)),
        false => Some(tc_handle(qdisc.parent)),
    };
    match inner {
        Some(class) if limiter.kind == "htb" || limiter.kind == "hfsc" => {
            format!("{dev} qdisc {}, class {class}", limiter.kind)
        }
        _ => format!("{dev} qdisc {}", limiter.kind),
    }
}

fn share_of(options: &QdiscOptions) -> Phrase {
    match options {
        QdiscOptions::Netem { loss, .. } if *loss > 0.0 => {
            let percent = (loss * 1000.0).round() / 10.0;
            Phrase { en: format!("{percent} % "), zh: format!(" {percent}% 的") }
        }
        QdiscOptions::Netem { .. } => Phrase { en: "a part ".into(), zh: "部分".into() },
        _ => Phrase::default(),
    }
}

/// The qdisc as `tc` would take it.
fn line(space: Space<'_>, qdisc: &Qdisc) -> String {
    let action = Action::QdiscAdd(spec(&space.after.link_name(qdisc.link), qdisc));
    action.argv().join(" ")
}

fn spec(dev: &str, qdisc: &Qdisc) -> QdiscSpec {
    QdiscSpec {
        dev: dev.to_owned(),
        kind: qdisc.kind.clone(),
        parent: qdisc.parent,
        handle: qdisc.handle,
        options: qdisc.options.clone(),
    }
}

/// Its deletion, unless it would take classes, filters or inner queues along, which nothing puts back.
pub(super) fn delete(space: Space<'_>, dev: &str, limiter: &Qdisc, class: Class) -> Fix {
    let of_tree = |link: u32, handle: u32| link == limiter.link && handle >> 16 == limiter.handle >> 16;
    let inside = space.after.classes.iter().any(|c| of_tree(c.link, c.handle))
        || space.after.qdiscs.iter().any(|q| is_child(q, limiter))
        || space.after.filters.iter().any(|f| of_tree(f.link, f.parent));
    if inside && limiter.handle != 0 {
        let mut longer = manual(LONGER);
        longer.title = LONGER.fill(&[("dev", &dev)]);
        return if class == Class::Limit { longer } else { manual(TREE) };
    }
    let action = Action::QdiscDelete(spec(dev, limiter));
    let mut fix = fix(space, DELETE.phrase(), vec![action]);
    fix.caution = (class == Class::Shaper).then(|| WITHOUT_LIMIT.phrase());
    fix
}
