//! `qdisc.netem_delay`: a queue delays packets longer than their users wait.

use super::drops::{Class, delete, parent_of, shapes};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use whydrop_model::action::TC_INGRESS;
use whydrop_model::delta::Change;
use whydrop_model::snapshot::{Qdisc, QdiscOptions, QueueStats};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "qdisc.netem_delay",
    title: text!("A queue delays packets longer than their users wait", "队列的延迟超过了使用者的等待时间"),
    meaning: text!(
        "Packets stand in a transmit queue so long that who waits for them gives up or sends again.",
        "包在发送队列中停留过久，等待者已放弃或重发。"
    ),
    seen_by: text!(
        "A flow in trouble leaves by an interface whose netem delays by a quarter of a second or more, or whose queue holds more than it sends in that time; the queue drops nothing.",
        "受影响的流从某接口离开，该接口的 netem 延迟达四分之一秒以上，或其队列积压超过该时间内的发送量；队列没有丢包。"
    ),
    why_lost: text!(
        "No packet is lost. What comes too late is of no use: a SYN is repeated after a second, a request is given up, a name server is taken for dead.",
        "没有包丢失，但到得太迟就没有用：SYN 一秒后重发，请求被放弃，域名服务器被认为已失效。"
    ),
    what_to_do: text!(
        "Take the delay away (tc qdisc del), raise the rate of the shaper, or shorten its queue so that senders learn early.",
        "去掉延迟（tc qdisc del）、提高整形速率，或缩短队列使发送方及早得知。"
    ),
    when_wrong: text!(
        "A delay that nobody minds is none: long paths have it.",
        "无人在意的延迟不是故障：长路径本来就有延迟。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Qdiscs, Source::Classes], judge };

/// From here on a delay may be what a suffering flow suffers from, in seconds.
const NOTICED: f64 = 0.25;
/// From here on it certainly is: half of the first time-out of a SYN (TCP_TIMEOUT_INIT), there and back.
const CERTAIN: f64 = 0.5;
const NS_PER_S: f64 = 1e9;
const US_PER_S: f64 = 1e6;

const SUMMARY: Text = text!(
    "The queue of {dev} ({kind}) delays packets by {ms} ms.",
    "{dev} 的队列（{kind}）使包延迟 {ms} 毫秒。"
);
const SET: Text =
    text!("netem on {dev} is set to a delay of {ms} ms", "{dev} 上的 netem 设置了 {ms} 毫秒延迟");
const STANDS: Text = text!(
    "{bytes} bytes wait in the queue of {dev}, which sent {sent} in the window",
    "{dev} 的队列中有 {bytes} 字节在等待，窗口内发送了 {sent} 字节"
);
const RAISE: Text = text!(
    "raise the rate of the shaper on {dev}, or shorten its queue (tc qdisc change dev {dev} ... limit BYTES)",
    "提高 {dev} 上整形器的速率，或缩短其队列（tc qdisc change dev {dev} ... limit 字节数）"
);

/// A queue in which packets stand.
#[derive(Clone, Copy)]
struct Slow<'a> {
    space: Space<'a>,
    qdisc: &'a Qdisc,
    seconds: f64,
    /// Bytes that wait and that were sent in the window; none if the delay is set.
    stands: Option<(u32, u64)>,
}

fn judge(space: Space<'_>) -> Judgement<'_> {
    let tops = space.after.qdiscs.iter().filter(|qdisc| qdisc.parent != TC_INGRESS);
    let tops = tops.filter(|qdisc| !parent_of(space, qdisc).is_some_and(shapes));
    let slow = tops.filter(|qdisc| space.qdisc_drops(qdisc) == 0).filter_map(|qdisc| slow(space, qdisc));
    slow.map(culprit).collect::<Vec<_>>().into()
}

fn slow<'a>(space: Space<'a>, qdisc: &'a Qdisc) -> Option<Slow<'a>> {
    let set = match qdisc.options {
        QdiscOptions::Netem { delay_us, jitter_us, .. } => (delay_us + jitter_us) as f64 / US_PER_S,
        _ => 0.0,
    };
    let before = space.before.qdiscs.iter().find(|q| {
        (q.link, q.handle, q.parent, &q.kind) == (qdisc.link, qdisc.handle, qdisc.parent, &qdisc.kind)
    });
    let of_classes = space.after.classes.iter().filter(|class| class.link == qdisc.link);
    let of_classes = of_classes.filter(|class| class.handle >> 16 == qdisc.handle >> 16);
    let of_classes = of_classes.filter_map(|class| {
        let old = space.before.classes.iter().find(|c| (c.link, c.handle) == (class.link, class.handle));
        wait(space, old.map(|c| &c.stats), &class.stats)
    });
    let whole = wait(space, before.map(|q| &q.stats), &qdisc.stats);
    let waits = of_classes.chain(whole).max_by(|a, b| a.0.total_cmp(&b.0));
    match waits {
        Some((seconds, bytes, sent)) if seconds > set && seconds >= NOTICED => {
            Some(Slow { space, qdisc, seconds, stands: Some((bytes, sent)) })
        }
        _ => (set >= NOTICED).then_some(Slow { space, qdisc, seconds: set, stands: None }),
    }
}

/// How long what stands in a queue takes to leave it at the pace of the window, with the bytes of both.
fn wait(space: Space<'_>, before: Option<&QueueStats>, after: &QueueStats) -> Option<(f64, u32, u64)> {
    // A burst that stands there at one moment only is none.
    let before = before.filter(|before| before.backlog > 0 && after.backlog > 0)?;
    let sent = Change::of(Some(before.bytes), Some(after.bytes)).risen();
    let window = space.case.observation.window_ns as f64 / NS_PER_S;
    let seconds = match sent {
        0 => window,
        sent => f64::from(after.backlog) * window / sent as f64,
    };
    Some((seconds, after.backlog, sent))
}

fn culprit(slow: Slow<'_>) -> Culprit<'_> {
    let Slow { space, qdisc, seconds, .. } = slow;
    let dev = space.after.link_name(qdisc.link);
    Culprit::new(space, &CAUSE, "qdisc.transmit", Scope::Link, format!("{dev} qdisc {}", qdisc.kind))
        .direction(Direction::Transmit)
        .on(qdisc.link)
        .takes(move |loss| match seconds >= CERTAIN {
            true => sure(loss.is_imagined_at(space, qdisc.link)),
            false => Fit::No,
        })
        .harms(move |flow| match flow.suffers() && flow.leaves_by(space, qdisc.link) {
            true if seconds >= CERTAIN => Fit::Yes,
            true => Fit::Maybe,
            false => Fit::No,
        })
        .tell(move |_| story(slow))
}

fn story(slow: Slow<'_>) -> Story {
    let Slow { space, qdisc, seconds, stands } = slow;
    let dev = space.after.link_name(qdisc.link);
    let ms = (seconds * 1000.0).round();
    let words: [(&str, &dyn std::fmt::Display); 3] = [("dev", &dev), ("kind", &qdisc.kind), ("ms", &ms)];
    let show = ["tc", "-s", "qdisc", "show", "dev", &dev];
    let story = Story::new(SUMMARY.fill(&words));
    match stands {
        None => story.evidence(SET.fill(&words), "qdisc options", &show).fix(delete(
            space,
            &dev,
            qdisc,
            Class::Netem,
        )),
        Some((bytes, sent)) => {
            let claim = STANDS.fill(&[("bytes", &bytes), ("dev", &dev), ("sent", &sent)]);
            story.evidence(claim, "qdisc counter", &show).fix(by_hand(RAISE.fill(&[("dev", &dev)])))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::snapshot::{QdiscOptions, QueueStats};
    use whydrop_model::{Reading, Verdict};

    fn netem(delay_us: u64) -> World {
        let options = QdiscOptions::Netem {
            loss: 0.0,
            model: None,
            limit: 1000,
            delay_us,
            jitter_us: 0,
            corrupt: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            rate: 0,
        };
        let mut world = World::pair();
        world.both(SERVER, |s| s.qdiscs = Reading::Present(vec![qdisc("netem", 0, options.clone())]));
        world
    }

    #[test]
    fn a_delay_that_nobody_can_wait_for() {
        let mut world = netem(1_500_000);
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.failed, talk.syn_repeats) = (5, 5, 5);
        assert_eq!(world.found(), ["qdisc.netem_delay @ netns:server: eth0 qdisc netem"]);
        assert_eq!(netem(1_500_000).report().verdict, Verdict::Clear, "nobody minds");
    }

    #[test]
    fn a_queue_that_stands() {
        let mut world = World::pair();
        let tbf = |bytes: u64, backlog: u32| {
            let mut tbf = qdisc("tbf", 0, QdiscOptions::Tbf { rate: 8000, burst: 2000, limit: 1_000_000 });
            tbf.stats = QueueStats { bytes, backlog, ..QueueStats::default() };
            tbf
        };
        world.both(SERVER, |s| s.qdiscs = Reading::Present(vec![tbf(0, 20_000)]));
        world.after(SERVER, |s| s.qdiscs = Reading::Present(vec![tbf(24_000, 30_000)]));
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.failed, talk.syn_repeats) = (5, 5, 5);
        assert_eq!(world.found(), ["qdisc.netem_delay @ netns:server: eth0 qdisc tbf"]);
    }
}
