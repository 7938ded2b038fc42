//! Arguments of `probe`, as fingers know them from ping and hping3.

use crate::command::observing::parse_duration;
use crate::failure::Refusal;
use crate::settings::say;
use anyhow::Result;
use std::path::PathBuf;
use std::time::Duration;
use whydrop_model::text;
use whydrop_model::{Phrase, shell::sanitize};
use whydrop_probe::flight::MAX_PROBES;
use whydrop_probe::spec::{MAX_ON_TIME, MIN_PATH_INTERVAL};
use whydrop_probe::{Family, ProbeSpec, Scheme};
use whydrop_report::error::Problem;

/// How long `--split` waits for late answers: the third repetition of a SYN-ACK comes after 7 s.
const SPLIT: Duration = Duration::from_secs(8);

/// Arguments of `probe`.
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    /// What.
    #[arg(value_name = "URL", help = say(text!(
        "tcp://host:port, http(s)://host[:port]/path, icmp://host, udp://host:port, pmtu://host, path://host",
        "tcp://主机:端口、http(s)://主机[:端口]/路径、icmp://主机、udp://主机:端口、pmtu://主机、path://主机")))]
    pub url: String,
    /// How many.
    #[arg(short = 'c', long, value_name = "N", help = say(text!(
        "Probes to send; 0: until Ctrl-C, at most 200000 (default 50)", "发送的探测数；0 表示直到 Ctrl-C，至多 200000（默认 50）")))]
    pub count: Option<u32>,
    /// How often.
    #[arg(short = 'i', long, value_name = "TIME", value_parser = parse_interval, help = say(text!(
        "Time between probes: 0.1, 100ms, u10000 (default 100ms)", "探测间隔：0.1、100ms、u10000（默认 100ms）")))]
    pub interval: Option<Duration>,
    /// Limit of an answer in time.
    #[arg(short = 'W', long, value_name = "TIME", value_parser = parse_duration, help = say(text!(
        "An answer after this time is late (default 0.9, below the first retransmission)",
        "超过此时间的应答算迟到（默认 0.9 秒，小于首次重传）")))]
    pub timeout: Option<Duration>,
    /// Deadline.
    #[arg(short = 'w', long, value_name = "TIME", value_parser = parse_duration,
          help = say(text!("Stop sending after this time", "到此时间后停止发送")))]
    pub deadline: Option<Duration>,
    /// Interface.
    #[arg(short = 'I', long, value_name = "NAME", help = say(text!("Leave through this interface", "从此接口发出")))]
    pub interface: Option<String>,
    /// Time to live.
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..),
          help = say(text!("Time to live of the probes", "探测包的 TTL")))]
    pub ttl: Option<u8>,
    /// IPv4.
    #[arg(short = '4', conflicts_with = "v6", help = say(text!("Use IPv4", "使用 IPv4")))]
    pub v4: bool,
    /// IPv6.
    #[arg(short = '6', help = say(text!("Use IPv6", "使用 IPv6")))]
    pub v6: bool,
    /// Only the end.
    #[arg(short, long, help = say(text!("Print the closing block only", "只输出最后的统计")))]
    pub quiet: bool,
    /// Machine-readable.
    #[arg(long, conflicts_with = "compare", help = say(text!("Print one JSON object", "输出一个 JSON 对象")))]
    pub json: bool,
    /// When.
    #[arg(short = 'D', long, help = say(text!("Begin each line with the time", "每行以时间戳开头")))]
    pub timestamps: bool,
    /// Capture file.
    #[arg(long, value_name = "FILE", help = say(text!(
        "Also write the probes and their answers to FILE (pcap)", "同时将探测与应答写入 FILE（pcap）")))]
    pub pcap: Option<PathBuf>,
    /// Stop when certain.
    #[arg(long, value_name = "PCT", value_parser = parse_percent, help = say(text!(
        "Stop as soon as it is certain whether the loss is above PCT: 1%, 0.5%",
        "一旦能确定丢包率是否高于 PCT 即停止：1%、0.5%")))]
    pub target: Option<f64>,
    /// Fail when certain.
    #[arg(long, value_name = "PCT", value_parser = parse_percent, help = say(text!(
        "Exit status 1 if the loss is certainly (95 %) above PCT, too",
        "若丢包率确定（95%）高于 PCT，退出码也为 1")))]
    pub fail_loss: Option<f64>,
    /// Wait for late answers.
    #[arg(long, help = say(text!(
        "Wait 8 s for late answers: they tell which direction loses", "多等 8 秒迟到的应答，以判断哪个方向丢包")))]
    pub split: bool,
    /// Fixed source ports.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=256), help = say(text!(
        "Use K fixed flows in turn, and show the loss of each", "轮流使用 K 条固定的流，并分别统计丢包")))]
    pub flows: Option<u16>,
    /// Segment sizes.
    #[arg(long, help = say(text!(
        "http(s):// only: look for segments that are too large for the path, in both directions",
        "仅 http(s)://：查找对路径而言过大的报文段，双向均测")))]
    pub sizes: bool,
    /// Send nothing.
    #[arg(long, help = say(text!("Say what would be sent, send nothing", "只说明将发送什么，不实际发送")))]
    pub dry_run: bool,
    /// Where probes start.
    #[arg(long, value_name = "TARGET", help = say(text!("Where probes start (default: here)", "探测从哪里发出（默认：当前命名空间）")))]
    pub from: Option<String>,
    /// The other end.
    #[arg(long, value_name = "TARGET", help = say(text!(
        "The other end, if it is on this machine: loss of each direction is then counted, not estimated",
        "对端若在本机，则指明它：两个方向的丢包率由计数得出，而非估计")))]
    pub to: Option<String>,
    /// An earlier run.
    #[arg(long, value_name = "FILE", help = say(text!(
        "Compare with an earlier run (FILE holds its --json output)", "与先前一次运行比较（FILE 为其 --json 输出）")))]
    pub compare: Option<PathBuf>,
    /// Permission to be fast.
    #[arg(long, help = say(text!(
        "Allow more than 1000 probes a second: the address is mine", "允许每秒超过 1000 个探测：目标归我所有")))]
    pub i_own_target: bool,
}

impl ProbeArgs {
    /// The probe that is wanted.
    pub fn spec(&self) -> Result<ProbeSpec> {
        let mut spec = ProbeSpec::parse(&self.url).map_err(|error| refuse(&self.url, error.phrase()))?;
        if let Some(count) = self.count {
            spec.count = (count > 0).then_some(count);
        } else if self.target.is_some() || self.deadline.is_some() {
            spec.count = None;
        }
        if spec.count.is_some_and(|n| n > MAX_PROBES) {
            let reason = text!("-c must not be above {most}", "-c 不能超过 {most}");
            return Err(refuse(&self.url, reason.fill(&[("most", &MAX_PROBES)])));
        }
        spec.interval = self.interval.unwrap_or(spec.interval);
        if spec.scheme == Scheme::Path && spec.interval < MIN_PATH_INTERVAL {
            let reason = text!(
                "path:// probes a hop at most every 100 ms: routers answer no more",
                "path:// 对每一跳至多每 100 毫秒探测一次：路由器不会应答更多"
            );
            return Err(refuse(&self.url, reason.phrase()));
        }
        if let Some(timeout) = self.timeout {
            if !spec.scheme.is_http() && timeout > MAX_ON_TIME {
                return Err(refuse(
                    &self.url,
                    text!(
                        "-W must stay below 1 s, where the first retransmission comes",
                        "-W 必须小于 1 s，首次重传从那时开始"
                    )
                    .phrase(),
                ));
            }
            spec.timeout = timeout;
        }
        spec.late = if self.split { SPLIT } else { spec.timeout };
        spec.family = match (self.v4, self.v6) {
            (true, _) => Some(Family::V4),
            (_, true) => Some(Family::V6),
            _ => None,
        };
        if let Some(option) = self.useless(&spec) {
            let scheme = spec.scheme.name();
            let reason = text!("{option} is of no use with {scheme}://", "{option} 不适用于 {scheme}://");
            return Err(refuse(&self.url, reason.fill(&[("option", &option), ("scheme", &scheme)])));
        }
        spec.sizes = self.sizes;
        spec.interface.clone_from(&self.interface);
        (spec.ttl, spec.flows, spec.target, spec.deadline) =
            (self.ttl, self.flows, self.target, self.deadline);
        (spec.capture, spec.own_target) = (self.pcap.is_some(), self.i_own_target);
        Ok(spec)
    }
}

impl ProbeArgs {
    /// An option that this kind of probe would ignore in silence.
    fn useless(&self, spec: &ProbeSpec) -> Option<&'static str> {
        let scheme = spec.scheme;
        let packets = matches!(scheme, Scheme::Tcp | Scheme::Icmp | Scheme::Udp);
        let flows = scheme == Scheme::Tcp || scheme == Scheme::Path && spec.port.is_some();
        let of_use = [
            ("--flows", self.flows.is_some(), flows),
            ("--sizes", self.sizes, scheme.is_http()),
            ("--split", self.split, packets),
            ("--pcap", self.pcap.is_some(), packets),
            ("--to", self.to.is_some(), packets),
            ("--target", self.target.is_some(), (packets || scheme.is_http()) && !self.sizes),
            ("-w", self.deadline.is_some(), scheme != Scheme::Pmtu && !self.sizes),
            ("-t", self.ttl.is_some(), scheme != Scheme::Path),
        ];
        of_use.into_iter().find(|(_, given, useful)| *given && !useful).map(|(option, ..)| option)
    }
}

fn refuse(url: &str, reason: Phrase) -> anyhow::Error {
    let url = sanitize(url, 120);
    let what = text!("cannot probe \"{url}\"", "无法探测 \"{url}\"").fill(&[("url", &url)]);
    let tries = Some("whydrop probe tcp://10.0.0.2:80 -c 20".to_owned());
    Refusal(Problem { what, reason: Some(reason), tries, ..Problem::default() }).into()
}

/// Seconds as ping takes them, `u1000` microseconds as hping takes them, or `100ms`.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let parsed = match (text.strip_prefix('u'), text.strip_suffix("ms")) {
        (Some(micros), _) => micros.parse().map(Duration::from_micros).ok(),
        (None, Some(millis)) => seconds(millis, 1e-3),
        (None, None) => seconds(text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let wrong =
        || say(text!("not a time: write 0.1, 100ms or u10000", "不是时间：应写成 0.1、100ms 或 u10000"));
    let parsed = parsed.ok_or_else(wrong)?;
    let allowed = Duration::from_micros(10)..=Duration::from_secs(3600);
    if allowed.contains(&parsed) {
        return Ok(parsed);
    }
    Err(say(text!("must lie between 10 us and 1 h", "必须在 10 微秒与 1 小时之间")).to_owned())
}

fn seconds(number: &str, unit: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

/// `1%`, `1` (per cent) as a share.
fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    match number.filter(|n| *n > 0.0 && *n <= 50.0) {
        Some(number) => Ok(number / 100.0),
        None => Err(say(text!(
            "must lie between 0 and 50 %: write 1% or 0.5",
            "必须在 0 与 50% 之间：应写成 1% 或 0.5"
        ))
        .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_three_tools() {
        assert_eq!(parse_interval("0.2"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_interval("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(parse_interval("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_interval("u10000"), Ok(Duration::from_millis(10)));
        for bad in ["", "0", "-1", "u", "nan", "1h"] {
            assert!(parse_interval(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percentages() {
        assert_eq!(parse_percent("1%"), Ok(0.01));
        assert_eq!(parse_percent("0.5"), Ok(0.005));
        for bad in ["0", "100%", "x", ""] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }
}
