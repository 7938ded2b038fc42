//! Which queues dropped in the window. A classful parent counts the drops of its children: each is charged once, to
//! the narrowest.

use crate::case::Space;
use crate::rule::{Judgement, Suspect, fill_words, fix};
use whydrop_model::action::{Action, QdiscSpec, TC_INGRESS, TC_ROOT, tc_handle};
use whydrop_model::delta::Change;
use whydrop_model::snapshot::{Class as TcClass, Qdisc, QdiscOptions};
use whydrop_model::{Applicability, Cause, Direction, Fix, NoteStatus, Phrase, Text, text};

/// Reasons of a drop in a queue; the subsystem of 7.x first, then the core's of 6.x.
const REASONS: &[&str] =
    &["QDISC_DROP", "QDISC_OVERLIMIT", "QDISC_CONGESTED", "QDISC_BURST_DROP", "QDISC_GENERIC", "TC_EGRESS"];

/// A fq_codel or codel queue shorter than this (default 10240 and 1000 packets) drops by its length, not by its delay.
const SHORT_QUEUE: u32 = 500;

const ROSE: Text = text!("qdisc {qdisc} dropped +{n}", "队列规则 {qdisc} dropped +{n}");
const CLASS_ROSE: Text = text!("class {class} dropped +{n}", "类 {class} dropped +{n}");
const LOSSY: Text = text!("its options name a loss of {percent} %", "其选项设置了 {percent}% 的丢包");
const DELETE: Text = text!("delete the qdisc", "删除该队列规则");
const WITHOUT_LIMIT: Text = text!("the interface then sends as fast as it can", "此后该接口将不再限速");
const OLD: Text = text!(
    "{kind} dropped {n} packets before the window, none in it",
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
pub fn judge_class(space: Space<'_>, cause: &'static Cause, class: Class, summary: Text) -> Judgement {
    let mut judgement = Judgement::default();
    for qdisc in space.after.qdiscs.iter() {
        let Some(limiter) = limiter_of(space, qdisc, class) else { continue };
        let dev = space.after.link_name(qdisc.link);
        let own = own_drops(space, qdisc);
        let share = share_of(&limiter.options);
        if own == 0 {
            let total = qdisc.stats.drops;
            let subject = format!("{dev} qdisc {}", qdisc.kind);
            if class == Class::Netem && std::ptr::eq(limiter, qdisc) {
                let text =
                    fill_words(LATENT, &[("kind", &Phrase::same(qdisc.kind.as_str())), ("share", &share)]);
                judgement.note(space, cause, NoteStatus::Latent, &subject, text);
            } else if total > 0 && children_drops(space, qdisc) == 0 {
                let text = OLD.fill(&[("kind", &qdisc.kind), ("n", &total)]);
                judgement.note(space, cause, NoteStatus::Old, &subject, text);
            }
            continue;
        }
        let words = [
            ("dev", Phrase::same(dev.as_str())),
            ("kind", Phrase::same(limiter.kind.as_str())),
            ("share", share),
        ];
        let summary = fill_words(summary, &words.each_ref().map(|(name, phrase)| (*name, phrase)));
        let show = ["tc", "-s", "qdisc", "show", "dev", &dev];
        let handle = format!("{} {}", qdisc.kind, tc_handle(qdisc.handle));
        let mut suspect =
            Suspect::new(space, cause, "qdisc.transmit", subject(space, &dev, qdisc, limiter), summary)
                .direction(Direction::Transmit)
                .packets(own, "qdisc drops")
                .evidence(ROSE.fill(&[("qdisc", &handle), ("n", &own)]), "qdisc counter", &show)
                .drop_events(space.drops_because(REASONS), "QDISC")
                .on(qdisc.link)
                .touches(space.probes_via(qdisc.link))
                .fix(delete(space, &dev, limiter, class));
        suspect = suspect.exhibit(line(space, limiter));
        if let QdiscOptions::Netem { loss, .. } = limiter.options
            && loss > 0.0
        {
            let percent = (loss * 1000.0).round() / 10.0;
            suspect = suspect.evidence(LOSSY.fill(&[("percent", &percent)]), "qdisc options", &show);
        }
        if let Some((name, n)) = dropping_class(space, qdisc) {
            let show = ["tc", "-s", "class", "show", "dev", &dev];
            suspect =
                suspect.evidence(CLASS_ROSE.fill(&[("class", &name), ("n", &n)]), "class counter", &show);
        }
        judgement.suspects.push(suspect);
    }
    judgement
}

/// The cause of drops in the queues of a device, if they are all of one kind.
pub fn cause_at(space: Space<'_>, link: u32) -> Option<&'static str> {
    let kinds = [
        (Class::Netem, super::netem_loss::CAUSE.id),
        (Class::Shaper, super::shaper_drop::CAUSE.id),
        (Class::Limit, super::queue_limit::CAUSE.id),
        (Class::Blackhole, super::blackhole::CAUSE.id),
    ];
    let here = || space.after.qdiscs.iter().filter(|qdisc| qdisc.link == link);
    let is = |class| here().any(|qdisc| limiter_of(space, qdisc, class).is_some());
    let mut found = kinds.into_iter().filter(|(class, _)| is(*class)).map(|(_, cause)| cause);
    found.next().filter(|_| found.next().is_none())
}

/// The qdisc at fault for the drops of `qdisc`, if it is of this kind: itself, or the shaper above it.
fn limiter_of<'a>(space: Space<'a>, qdisc: &'a Qdisc, class: Class) -> Option<&'a Qdisc> {
    if qdisc.parent == TC_INGRESS {
        return None;
    }
    let mut at = qdisc;
    // A plain queue inside a shaper overflows because the shaper is slow.
    while let Some(parent) = parent_of(space, at).filter(|p| shapes(p)) {
        at = parent;
    }
    let kind = match (&at.options, at.kind.as_str()) {
        (QdiscOptions::Netem { loss, corrupt, model, .. }, _)
            if *loss > 0.0 || *corrupt > 0.0 || model.is_some() =>
        {
            Class::Netem
        }
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

fn shapes(qdisc: &Qdisc) -> bool {
    match &qdisc.options {
        QdiscOptions::Netem { .. } => true,
        _ => matches!(qdisc.kind.as_str(), "tbf" | "htb" | "hfsc" | "cbq" | "cbs" | "ets" | "taprio"),
    }
}

/// Drops of a qdisc that none of its children counted.
fn own_drops(space: Space<'_>, qdisc: &Qdisc) -> u64 {
    space.qdisc_drops(qdisc).saturating_sub(children_drops(space, qdisc))
}

fn children_drops(space: Space<'_>, qdisc: &Qdisc) -> u64 {
    let children = space.after.qdiscs.iter().filter(|q| is_child(q, qdisc));
    children.map(|child| space.qdisc_drops(child)).sum()
}

fn parent_of<'a>(space: Space<'a>, qdisc: &Qdisc) -> Option<&'a Qdisc> {
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
fn dropping_class(space: Space<'_>, qdisc: &Qdisc) -> Option<(String, u64)> {
    let rise = |class: &TcClass| {
        let before = space.before.classes.iter().find(|c| (c.link, c.handle) == (class.link, class.handle));
        Change::of_u32(before.map(|c| c.stats.drops), Some(class.stats.drops)).risen()
    };
    let of_qdisc = |c: &&TcClass| c.link == qdisc.link && c.handle >> 16 == qdisc.handle >> 16;
    let classes = space.after.classes.iter().filter(of_qdisc).map(|c| (tc_handle(c.handle), rise(c)));
    classes.filter(|(_, n)| *n > 0).max_by_key(|(_, n)| *n)
}

fn subject(space: Space<'_>, dev: &str, qdisc: &Qdisc, limiter: &Qdisc) -> String {
    let inner = match std::ptr::eq(qdisc, limiter) {
        true => dropping_class(space, qdisc).map(|(name, _)| name),
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

fn delete(space: Space<'_>, dev: &str, limiter: &Qdisc, class: Class) -> Fix {
    let action = Action::QdiscDelete(spec(dev, limiter));
    let mut fix = fix(space, DELETE.phrase(), Applicability::Safe, vec![action]);
    fix.caution = (class == Class::Shaper).then(|| WITHOUT_LIMIT.phrase());
    fix
}
