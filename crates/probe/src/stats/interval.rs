//! Intervals for a share of lost probes.

/// `lost / total`; none if nothing was counted.
pub fn share(lost: u64, total: u64) -> Option<f64> {
    (total > 0).then(|| lost as f64 / total as f64)
}

/// Clopper-Pearson interval of a share at confidence `1 - alpha`: never narrower than promised. None without data.
pub fn clopper_pearson(lost: u64, total: u64, alpha: f64) -> Option<[f64; 2]> {
    if total == 0 || lost > total {
        return None;
    }
    let (k, n) = (lost as f64, total as f64);
    let low = if lost == 0 { 0.0 } else { beta_quantile(alpha / 2.0, k, n - k + 1.0) };
    let high = if lost == total { 1.0 } else { beta_quantile(1.0 - alpha / 2.0, k + 1.0, n - k) };
    Some([low, high])
}

/// Wilson score interval; `z` is 1.96 for 95 %. Narrower than [`clopper_pearson`], right on average. None without data.
pub fn wilson(lost: u64, total: u64, z: f64) -> Option<[f64; 2]> {
    let p = share(lost, total)?;
    let n = total as f64;
    let z2 = z * z;
    let centre = p + z2 / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Some([((centre - half) / (1.0 + z2 / n)).max(0.0), ((centre + half) / (1.0 + z2 / n)).min(1.0)])
}

/// The `x` at which the regularised incomplete beta function reaches `q`.
fn beta_quantile(q: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let mid = f64::midpoint(low, high);
        if beta_cdf(mid, a, b) < q { low = mid } else { high = mid }
    }
    f64::midpoint(low, high)
}

/// Regularised incomplete beta function `I_x(a, b)`.
fn beta_cdf(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The fraction converges fast below the mean only; the other side by symmetry.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(x, a, b) / a
    } else {
        1.0 - front * beta_fraction(1.0 - x, b, a) / b
    }
}

/// Continued fraction of the incomplete beta function (Lentz's method, DLMF 8.17.22).
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let guard = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / guard(1.0 + term * d);
            c = guard(1.0 + term / c);
            change = d * c;
            value *= change;
        }
        if (change - 1.0).abs() < 1e-13 {
            break;
        }
    }
    value
}

/// Natural logarithm of the gamma function for positive arguments (Lanczos, g = 7).
pub(crate) fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let sum =
        (1..).zip(COEFFICIENTS).fold(0.999_999_999_999_809_9, |sum, (i, c)| sum + c / (x + f64::from(i)));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: Option<[f64; 2]>, b: [f64; 2]) {
        let a = a.expect("data");
        assert!((a[0] - b[0]).abs() < 5e-4 && (a[1] - b[1]).abs() < 5e-4, "{a:?} is not {b:?}");
    }

    #[test]
    fn agrees_with_published_values() {
        // R: binom.test(k, n)$conf.int
        near(clopper_pearson(0, 10, 0.05), [0.0, 0.3085]);
        near(clopper_pearson(5, 10, 0.05), [0.1871, 0.8129]);
        near(clopper_pearson(1, 10, 0.05), [0.0025, 0.4450]);
        near(clopper_pearson(10, 10, 0.05), [0.6915, 1.0]);
        near(clopper_pearson(30, 1000, 0.05), [0.0203, 0.0426]);
        near(wilson(5, 10, 1.959_964), [0.2366, 0.7634]);
        assert_eq!(clopper_pearson(0, 0, 0.05), None);
        assert_eq!(wilson(0, 0, 1.96), None);
    }

    #[test]
    fn stays_right_for_many_probes() {
        let [low, high] = clopper_pearson(50_000, 100_000, 0.05).expect("data");
        assert!((high - low - 2.0 * 1.96 * 0.5 / 100_000f64.sqrt()).abs() < 1e-4);
    }
}
