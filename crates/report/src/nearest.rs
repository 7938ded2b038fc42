//! Names that are close to a mistyped one.

/// Names offered.
const OFFERED: usize = 3;

/// The nearest of the known names, at most three, the closest first.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_ascii_lowercase();
    let mut ranked: Vec<(f64, &str)> = known.into_iter().map(|k| (likeness(&wanted, k), k)).collect();
    ranked.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.cmp(y)));
    ranked.into_iter().take(OFFERED).map(|(_, name)| name.to_owned()).collect()
}

/// 0..1: the better of the whole name and its last part; a name that contains what was typed counts as close.
fn likeness(wanted: &str, known: &str) -> f64 {
    let known = known.to_ascii_lowercase();
    let last = known.rsplit('.').next().unwrap_or(&known);
    let whole = strsim::normalized_damerau_levenshtein(wanted, &known);
    let part = strsim::normalized_damerau_levenshtein(wanted, last);
    let contains = wanted.len() >= 4 && known.contains(wanted);
    whole.max(part).max(if contains { 0.8 } else { 0.0 })
}
