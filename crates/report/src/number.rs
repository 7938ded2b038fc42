//! Numbers as people read them.

use whydrop_model::Lang;

/// `12,345` in both languages.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `count` of a number that may be unknown: `?`, never zero.
pub(crate) fn maybe(n: Option<u64>) -> String {
    n.map_or_else(|| "?".to_owned(), count)
}

/// The digits of a share 0..1 in per cent: no decimals from 1 on, and neither 0 nor 100 unless it is exact.
fn digits(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.95 {
        format!("{:.1}", percent.max(0.1))
    } else if percent > 99.0 && percent < 100.0 {
        format!("{:.1}", percent.min(99.9))
    } else {
        format!("{percent:.0}")
    }
}

/// `50 %`, in Chinese `50%`.
pub(crate) fn percent(share: f64, lang: Lang) -> String {
    match lang {
        Lang::En => format!("{} %", digits(share)),
        Lang::Zh => format!("{}%", digits(share)),
    }
}

/// `37-63 %`, in Chinese `37-63%`.
pub(crate) fn interval([low, high]: [f64; 2], lang: Lang) -> String {
    format!("{}-{}", digits(low), percent(high, lang))
}

/// `0.043 ms`, `0.43 ms`, `4.3 ms`, `430 ms`: two or three significant digits.
pub(crate) fn millis(ms: f64) -> String {
    let decimals = match ms {
        _ if ms < 0.1 => 3,
        _ if ms < 1.0 => 2,
        _ => usize::from(ms < 100.0),
    };
    format!("{ms:.decimals$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(maybe(None), "?");
    }

    #[test]
    fn a_small_share_is_not_nothing_and_a_large_one_not_all() {
        assert_eq!(percent(0.0, Lang::En), "0 %");
        assert_eq!(percent(0.0001, Lang::En), "0.1 %");
        assert_eq!(percent(0.9999, Lang::Zh), "99.9%");
        assert_eq!(percent(1.0, Lang::Zh), "100%");
        assert_eq!(interval([0.374, 0.626], Lang::En), "37-63 %");
    }
}
