//! Files of /proc/net/stat: a heading, and a line of hexadecimal numbers for each CPU.

use whydrop_model::snapshot::Counters;

/// Sums over the CPUs, by column name. `entries` is the same total on every line and taken once.
pub fn sum(text: &str) -> Option<Counters> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split_ascii_whitespace().collect();
    let mut sums = Counters::new();
    for line in lines {
        let mut values = line.split_ascii_whitespace();
        for name in &names {
            let value = u64::from_str_radix(values.next()?, 16).ok()?;
            let sum = sums.entry((*name).to_owned()).or_insert(0);
            *sum = if *name == "entries" { value } else { sum.saturating_add(value) };
        }
    }
    (!sums.is_empty()).then_some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_but_the_entries_is_summed() {
        let sums = sum("entries  table_fulls\n00000005 00000001\n00000005 0000000f\n").unwrap();
        assert_eq!((sums.get("entries"), sums.get("table_fulls")), (Some(&5), Some(&16)));
        for text in ["", "drop\n", "drop entries\n1\n", "drop\nxyz\n"] {
            assert_eq!(sum(text), None, "{text:?}");
        }
    }
}
