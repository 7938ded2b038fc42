//! The picture of a way as SVG: lanes from left to right, the request above, the answer below. The width of the band is
//! packets; what is lost peels off it, hatched and numbered, so that no colour is needed to read it.

use super::{Lane, Picture, Strip};
use crate::html::escape;
use crate::layout::width;
use crate::number::maybe;
use std::fmt::Write;
use whydrop_model::{Lang, text};

/// Width of the whole band.
const BAND: f64 = 56.0;
/// Anything that was lost can be seen.
const THINNEST: f64 = 2.0;
/// Height of a line of words.
const LINE: f64 = 19.0;
/// Width of a narrow letter at 13 px; a wide one takes two.
const LETTER: f64 = 7.6;
const NARROWEST: f64 = 170.0;
const GAP: f64 = 14.0;
/// Half of the room between request and answer.
const MIDDLE: f64 = 16.0;
/// Room for the names of the lanes.
const TOP: f64 = 46.0;
/// Lanes without loss in a row that are drawn one by one.
const LONE: usize = 2;

/// Draws it; `id` is the prefix of the ids in it, so that several pictures share a page.
pub(crate) fn draw(picture: &Picture, id: &str, lang: Lang) -> String {
    let lanes = folded(&picture.lanes, lang);
    let rows = |back: bool| {
        let of = |lane: &Lane| lane.losses.iter().filter(|strip| strip.back == back).count();
        lanes.iter().map(of).max().unwrap_or(0) as f64
    };
    let upper = TOP + rows(false) * LINE + 10.0;
    let request = upper + BAND;
    let answer = request + 2.0 * MIDDLE;
    let height = answer + BAND + 14.0 + rows(true) * LINE + 34.0;
    let widths: Vec<f64> = lanes.iter().map(lane_width).collect();
    let ends = picture.ends(lang);
    let margin = ends.iter().map(|end| letters(end)).fold(60.0, f64::max) + 12.0;
    let total = margin + widths.iter().sum::<f64>() + GAP * widths.len() as f64 + 24.0;
    let mut out =
        Drawing { picture, id, svg: String::new(), request, answer, scale: BAND / picture.whole() as f64 };
    out.open(total, height, &lanes);
    // The request loses from left to right; the answer begins with what arrived, and runs the other way.
    let sum = |back: bool| -> f64 {
        let strips = lanes.iter().filter(|lane| lane.on_way).flat_map(|lane| &lane.losses);
        strips.filter(|strip| strip.back == back).map(|strip| out.thickness(strip)).sum()
    };
    // Where the way leaves sight, only the number that came back tells what the answer is.
    let mut left = match picture.arrived.filter(|_| picture.leaves) {
        Some(arrived) => arrived as f64 * out.scale,
        None => (BAND - sum(false) - sum(true)).max(0.0),
    };
    let mut there = BAND;
    out.words(8.0, request - BAND / 2.0 + 4.0, "end", &ends[0]);
    out.words(8.0, answer + BAND / 2.0 + 4.0, "end", &ends[1]);
    let places: Vec<(&Lane, f64, f64)> = lanes
        .iter()
        .zip(&widths)
        .scan(margin, |x, (lane, wide)| {
            let at = *x;
            *x += wide + GAP;
            Some((lane, at, *wide))
        })
        .collect();
    places.iter().for_each(|(lane, x, wide)| out.frame(lane, *x, *wide, height));
    let last = lanes.iter().filter(|lane| lane.on_way).count();
    for (index, (lane, x, wide)) in places.iter().enumerate() {
        let turns = index + 1 == last && !picture.leaves;
        out.lane(lane, *x, *wide, turns, &mut there, &mut left);
    }
    if picture.leaves {
        let x = margin + places.iter().take(last).map(|(_, _, wide)| wide + GAP).sum::<f64>();
        out.words(x, request + MIDDLE + 4.0, "more", ">>");
    }
    out.svg.push_str("</svg>\n");
    out.svg
}

/// Rows of lanes without loss between others become one.
fn folded(lanes: &[Lane], lang: Lang) -> Vec<Lane> {
    let quiet = |lane: &Lane| lane.losses.is_empty() && lane.on_way;
    let mut out: Vec<Lane> = vec![];
    let mut index = 0;
    while let Some(lane) = lanes.get(index) {
        let run = lanes.iter().skip(index).take_while(|lane| quiet(lane)).count();
        let inner = index > 0 && index + run < lanes.len();
        if inner && run > LONE {
            let name = text!("{n} namespaces, no loss", "{n} 个命名空间，无丢包").fill(&[("n", &run)]);
            out.push(Lane { name: name.get(lang).to_owned(), on_way: true, marks: vec![], losses: vec![] });
            index += run;
        } else {
            out.push(lane.clone());
            index += 1;
        }
    }
    out
}

fn letters(text: &str) -> f64 {
    width(text) as f64 * LETTER
}

fn label(strip: &Strip) -> String {
    let lost = strip.packets.map_or_else(|| "?".to_owned(), |n| format!("-{}", maybe(Some(n))));
    format!("{lost} {}", short(&strip.label))
}

/// A label that no lane has to grow for without end; the whole of it stands in the title.
fn short(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if width(&out) > 44 {
            return out + "...";
        }
        out.push(c);
    }
    out
}

fn lane_width(lane: &Lane) -> f64 {
    let labels =
        lane.losses.iter().map(|strip| letters(&label(strip)) + 56.0 + 18.0 * lane.losses.len() as f64);
    let words = [letters(&short(&lane.name)) + 20.0, letters(&short(&lane.marks.join(", "))) + 20.0];
    labels.chain(words).fold(NARROWEST, f64::max)
}

struct Drawing<'a> {
    picture: &'a Picture,
    id: &'a str,
    svg: String,
    /// Lower edge of the request's band.
    request: f64,
    /// Upper edge of the answer's band.
    answer: f64,
    /// Pixels of a packet.
    scale: f64,
}

impl Drawing<'_> {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // A string takes everything.
        self.svg.write_fmt(text).ok();
        self.svg.push('\n');
    }

    fn open(&mut self, wide: f64, high: f64, lanes: &[Lane]) {
        let (id, title) = (self.id, escape(&self.picture.title));
        self.put(format_args!(
            "<svg class=\"way\" role=\"img\" viewBox=\"0 0 {wide:.0} {high:.0}\" width=\"{wide:.0}\" height=\"{high:.0}\" \
             aria-labelledby=\"{id}-title {id}-desc\" xmlns=\"http://www.w3.org/2000/svg\">"
        ));
        self.put(format_args!("<title id=\"{id}-title\">{title}</title>"));
        let told = lanes.iter().map(|lane| {
            let losses: Vec<String> =
                lane.losses.iter().map(|s| format!("{} {}", s.number, label(s))).collect();
            format!("{}: {}", lane.name, if losses.is_empty() { "0".to_owned() } else { losses.join(", ") })
        });
        let told = escape(&told.collect::<Vec<_>>().join("; "));
        self.put(format_args!("<desc id=\"{id}-desc\">{told}</desc>"));
        self.put(format_args!(
            "<defs><pattern id=\"{id}-hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" class=\"lossfill\"/>\
             <line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\" class=\"hatch\"/></pattern></defs>"
        ));
    }

    fn words(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escape(text);
        self.put(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>"));
    }

    fn thickness(&self, strip: &Strip) -> f64 {
        match strip.packets {
            Some(0) | None => 0.0,
            Some(n) => (n as f64 * self.scale).max(THINNEST),
        }
    }

    /// The box of a lane with its words.
    fn frame(&mut self, lane: &Lane, x: f64, wide: f64, high: f64) {
        let class = if lane.on_way || self.picture.lanes.iter().all(|lane| !lane.on_way) {
            "lane"
        } else {
            "lane aside"
        };
        let tall = high - 62.0;
        self.put(format_args!(
            "<rect x=\"{x:.1}\" y=\"30\" width=\"{wide:.1}\" height=\"{tall:.1}\" rx=\"6\" class=\"{class}\"/>"
        ));
        self.words(x + 4.0, 20.0, "name", &short(&lane.name));
        self.words(x + 4.0, high - 14.0, "mark", &short(&lane.marks.join(", ")));
    }

    /// What passes a lane: `there` and `left` are the widths of the two bands at its left edge, and then at its right
    /// one. In the last one the request `turns` into the answer.
    fn lane(&mut self, lane: &Lane, x: f64, wide: f64, turns: bool, there: &mut f64, left: &mut f64) {
        let end = if turns { x + wide - 8.0 } else { x + wide + GAP };
        for back in [false, true] {
            let losses: Vec<&Strip> = lane.losses.iter().filter(|strip| strip.back == back).collect();
            let step = wide / (losses.len() as f64 + 1.0);
            let step = step.min(60.0);
            let mut edge = x;
            for (index, strip) in losses.iter().enumerate() {
                let at = x + step * (index as f64 + 0.5);
                let thick = self.thickness(strip);
                let band = if back { *left } else { *there };
                let kept = match (lane.on_way, back) {
                    (false, _) => 0.0,
                    (true, false) => (band - thick).max(0.0),
                    (true, true) => band + thick,
                };
                if lane.on_way {
                    self.band(back, edge, at, band);
                }
                self.strip(strip, back, at, thick, index);
                edge = at;
                match back {
                    false => *there = kept,
                    true => *left = kept,
                }
            }
            if lane.on_way {
                let band = if back { *left } else { *there };
                self.band(back, edge, end, band);
            }
        }
        if turns && *there > 0.0 {
            let (y, tall) = (self.request - *there, *there + 2.0 * MIDDLE + *left);
            let x = end - 8.0;
            self.put(format_args!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"8\" height=\"{tall:.1}\" class=\"band\"/>"
            ));
        }
    }

    /// A piece of a band.
    fn band(&mut self, back: bool, from: f64, to: f64, thick: f64) {
        let (wide, middle) = (to - from, if back { self.answer } else { self.request });
        if thick <= 0.0 {
            self.put(format_args!(
                "<line x1=\"{from:.1}\" y1=\"{middle:.1}\" x2=\"{to:.1}\" y2=\"{middle:.1}\" class=\"gone\"/>"
            ));
            return;
        }
        let y = if back { middle } else { middle - thick };
        self.put(format_args!(
            "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{thick:.1}\" class=\"band\"/>"
        ));
    }

    /// A loss: a hatched strip away from the middle, its number in a disc, its words beside it.
    fn strip(&mut self, strip: &Strip, back: bool, at: f64, thick: f64, index: usize) {
        let (id, wide) = (self.id.to_owned(), thick.clamp(THINNEST, 40.0));
        let base = if back { self.answer } else { self.request };
        let row = (index as f64 + 1.0) * LINE;
        let end = if back { base + BAND + row } else { base - BAND - row };
        let (y, tall) = if back { (base, end - base) } else { (end, base - end) };
        let whole = escape(&strip.label);
        let class = if strip.number == "?" { "unknown" } else { "loss" };
        let fill = format!("url(#{id}-hatch)");
        self.put(format_args!("<g><title>{whole}</title>"));
        self.put(format_args!(
            "<rect x=\"{at:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\" class=\"{class}\" fill=\"{fill}\"/>"
        ));
        let (cx, radius) = (at + wide / 2.0, 9.0);
        let number = escape(&strip.number);
        let disc = (radius * 2.0f64).max(letters(&strip.number) + 8.0);
        self.put(format_args!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{disc:.1}\" height=\"18\" rx=\"9\" class=\"disc\"/>\
             <text x=\"{cx:.1}\" y=\"{:.1}\" class=\"number\">{number}</text>",
            cx - disc / 2.0,
            end - radius,
            end + 4.5
        ));
        let words = label(strip);
        self.words(cx + (disc.max(wide)) / 2.0 + 5.0, end + 4.5, "lost", &words);
        self.svg.push_str("</g>\n");
    }
}
