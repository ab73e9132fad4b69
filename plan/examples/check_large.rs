//! How long `check` takes for a large plan, and how much memory: prints one JSON object.
//!
//! `cargo run --release -p plan --example check_large [SERVICES]`

use std::error::Error;
use std::fmt::Write;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let services = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 10_000,
    };
    let text = text(services)?;
    let before = peak_kib()?;
    #[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
    let start = Instant::now();
    let outcome = plan::check(&text);
    let took = start.elapsed();
    let count = match &outcome {
        Ok(plan) => plan.services.len(),
        Err(problems) => {
            return Err(problems.first().map_or_else(String::new, ToString::to_string).into());
        }
    };
    let bytes = text.len();
    let took = took.as_secs_f64() * 1e3;
    let [before, peak] = [before, peak_kib()?].map(|kib| f64::from(kib) / 1024.0);
    println!(
        "{{\"services\":{count},\"bytes\":{bytes},\"milliseconds\":{took:.1},\
         \"peakMiBBefore\":{before:.1},\"peakMiB\":{peak:.1}}}"
    );
    Ok(())
}

/// A plan of so many services, each after the one before, two endpoints on either side.
fn text(services: u32) -> Result<String, std::fmt::Error> {
    let mut text = String::from(
        "apiVersion: crossfade.dev/v1alpha1\nkind: CutoverPlan\nmetadata: { name: large }\n\
         spec:\n  \
         zones: [{ name: corp.example. }]\n  steps:\n    - { split: 1%, bake: 10m }\n    \
         - { split: 100%, bake: 1h }\n  services:\n",
    );
    for n in 0..services {
        let (high, low) = (n >> 8, n & 255);
        writeln!(text, "    - name: service-{n}\n      hosts: [service-{n}.corp.example]")?;
        if n > 0 {
            writeln!(text, "      after: [service-{}]", n - 1)?;
        }
        writeln!(text, "      address: 10.0.{high}.{low}")?;
        writeln!(text, "      ports: [{{ name: http, port: 8080, protocol: http }}]")?;
        writeln!(text, "      legacy: {{ endpoints: [10.1.{high}.{low}, 10.2.{high}.{low}] }}")?;
        writeln!(text, "      target: {{ endpoints: [10.3.{high}.{low}, 10.4.{high}.{low}] }}")?;
    }
    Ok(text)
}

/// The most memory that this process ever had resident.
fn peak_kib() -> Result<u32, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmHWM in /proc/self/status")?.parse()?)
}
