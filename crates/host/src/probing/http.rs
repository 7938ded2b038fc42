//! http:// and https://: GETs over ordinary sockets, one after another.

use super::get::{Done, Get, Request, get};
use super::tls::{self, Tls};
use super::{Job, clock, sizes};
use crate::error::Result;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use whydrop_model::ProbeResult;
use whydrop_model::probe::Http;
use whydrop_probe::Nanos;
use whydrop_probe::account::{Account, Answer};
use whydrop_probe::http::{End, Exchange};
use whydrop_probe::progress::{Event, Reply};
use whydrop_probe::stats::{self, sequential};
use whydrop_probe::{Scheme, codec, notes};

/// Sends `count` GETs; each ends before the next begins. A GET is received if its whole answer came (whatever its
/// status) or if the port is closed, else lost. `resolving` is how long the name took.
pub fn run(job: &Job<'_>, remote: SocketAddr, resolving: Option<Duration>) -> Result<ProbeResult> {
    let spec = job.spec;
    if spec.sizes {
        return sizes::run(job, remote);
    }
    let tls = (spec.scheme == Scheme::Https).then(|| Tls::new(&spec.host)).transpose();
    let tls = tls.map_err(|e| tls::refused(job, e))?;
    let timeout = u64::try_from(spec.timeout.as_nanos()).unwrap_or(Nanos::MAX / 4);
    let interval = u64::try_from(spec.interval.as_nanos()).unwrap_or(Nanos::MAX / 4);
    let bytes = Exchange::request(&authority(job, remote), &spec.path);
    let request = Request { job, remote, bytes: &bytes, tls: tls.as_ref(), timeout, watch: None };
    let mut account = Account::new(timeout);
    let mut shown: Option<(Nanos, Http)> = None;
    job.tell(account.counts(), Event::Started { address: remote.ip(), method: "http", because: None });
    let start = clock::now();
    let (mut cut, mut now, mut slow) = (0, start, 0);
    for seq in 0..spec.count.unwrap_or(u32::MAX) {
        pause(job, start + interval * u64::from(seq), now)?;
        if job.cancelled() || spec.deadline.is_some_and(|d| u128::from(clock::now() - start) >= d.as_nanos())
        {
            break;
        }
        let get = get(&request)?;
        now = clock::now();
        let Some(get) = get else {
            cut = 1;
            break;
        };
        let Done { sport, began, exchange, http, held, .. } = match get {
            Get::NotSent(errno) => {
                account.sent(0, now, Some(errno));
                job.tell(account.counts(), Event::NotSent(seq, errno));
                continue;
            }
            Get::Done(done) => *done,
        };
        slow = held.max(slow);
        account.sent(sport, began, None);
        if let Some(total) = exchange.total() {
            let answer =
                if exchange.ended() == Some(&End::Refused) { Answer::Refused } else { Answer::Reply };
            if let Some(credit) = account.reply(seq, began + total, answer) {
                job.tell(account.counts(), Event::Reply(reply(seq, credit, answer, total, remote.ip())));
            }
        } else {
            account.expire(began.saturating_add(timeout).saturating_add(1).max(now));
            let why = http.error.clone().unwrap_or_default();
            job.tell(account.counts(), Event::Failed { seq, ms: (now - began) as f64 / 1e6, why });
        }
        let c = account.counts();
        let certain =
            |limit| sequential::test(c.lost + c.late, c.transmitted, limit) != sequential::Answer::Open;
        // The one that a person wants to see: one that was lost, or else one that failed, or else the slowest.
        let badness = exchange.total().unwrap_or(Nanos::MAX - u64::from(http.ended_by_peer()));
        if shown.as_ref().is_none_or(|(worst, _)| badness > *worst) {
            shown = Some((badness, http));
        }
        if spec.target.is_some_and(certain) {
            break;
        }
    }
    // A GET that failed before its limit is lost all the same.
    account.expire(Nanos::MAX);
    let mut result = summarise(&account);
    result.extra.undecided = cut;
    result.extra.host_delay_ms = Some(slow as f64 / 1e6);
    result.extra.notes.extend(spec.target.map(|limit| notes::limit(limit, &result)));
    let name_ms = resolving.map(|d| d.as_secs_f64() * 1e3);
    result.extra.notes.extend(notes::held_up(&result));
    result.http = shown.map(|(_, http)| Http { name_ms, ..http });
    Ok(result)
}

fn summarise(account: &Account) -> ProbeResult {
    let counts = account.counts();
    let rtts = stats::rtt::on_time_ms(account.entries());
    ProbeResult {
        method: "http".into(),
        transmitted: counts.transmitted,
        received: counts.received,
        lost: counts.lost,
        late: counts.late,
        not_sent: counts.not_sent,
        refused: counts.refused,
        loss: stats::interval::share(counts.lost + counts.late, counts.transmitted),
        loss_ci95: stats::interval::clopper_pearson(counts.lost + counts.late, counts.transmitted, 0.05),
        rtt_ms: stats::rtt::summary(&rtts),
        send_errors: account.send_errors(),
        packets: account.packets(clock::wall_offset()),
        ..ProbeResult::default()
    }
}

fn reply(
    seq: u32,
    credit: whydrop_probe::account::Credit,
    answer: Answer,
    total: Nanos,
    from: IpAddr,
) -> Box<Reply> {
    Box::new(Reply {
        seq,
        credit,
        answer,
        rtt_ms: total as f64 / 1e6,
        attempt: None,
        from,
        length: None,
        ttl: None,
        ip: None,
        detail: codec::Detail::default(),
    })
}

/// Host header: as written in the URL, with the port unless it is the usual one.
pub fn authority(job: &Job<'_>, remote: SocketAddr) -> String {
    let host = &job.spec.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let usual = if job.spec.scheme == Scheme::Https { 443 } else { 80 };
    if remote.port() == usual { host } else { format!("{host}:{}", remote.port()) }
}

/// Sleeps until `due`, in steps short enough to notice a cancelled run.
fn pause(job: &Job<'_>, due: Nanos, mut now: Nanos) -> Result<()> {
    while now < due && !job.cancelled() {
        std::thread::sleep(Duration::from_nanos((due - now).min(100_000_000)));
        now = clock::now();
    }
    Ok(())
}
