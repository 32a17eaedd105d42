//! From what was written down to a number.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::{Figure, Rehearsal, Selection, Series};
use super::record::{Ending, Record, Seen};
use crate::sim::Bill;

/// What the gateway calls its count of attempts under way.
const IN_FLIGHT: &str = "tidegate_in_flight";
/// What the gateway calls its count of hedges.
const HEDGES: &str = "tidegate_hedges_total";

/// One run, to be asked for figures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Findings<'a> {
    pub(super) rehearsal: &'a Rehearsal,
    pub(super) record: &'a Record,
}

// === impl Findings ===

impl Findings<'_> {
    /// The figure; `None` where there is nothing to measure it on.
    pub(super) fn figure(&self, figure: &Figure, over: &Selection) -> Option<f64> {
        match figure {
            Figure::Requests => Some(self.count(over, |_| true)),
            Figure::SuccessRatio => self.success(over),
            Figure::Ttft(quantile) => {
                let all = self.of(over, |seen| seen.sent);
                percentile(all.filter_map(|seen| seen.first_token), *quantile)
            }
            Figure::Duration(quantile) => {
                let all = self.of(over, |seen| seen.sent);
                let complete = all.filter(|seen| seen.ending == Ending::Complete);
                percentile(complete.map(|seen| seen.ended.saturating_sub(seen.sent)), *quantile)
            }
            Figure::Share => {
                let answered = self.count(over, is_answer);
                let by =
                    |seen: &Seen| seen.served_by.as_deref().is_some_and(|by| over.is_target(by));
                ratio(self.count(over, |seen| is_answer(seen) && by(seen)), answered)
            }
            Figure::UpstreamShare => {
                let all = Selection { target: None, ..over.clone() };
                ratio(self.upstream(over), self.upstream(&all))
            }
            Figure::UpstreamRequests => Some(self.upstream(over)),
            Figure::AttemptsPerRequest => ratio(self.upstream(over), self.count(over, |_| true)),
            Figure::HedgeRatio => self.hedges(over),
            Figure::RejectedRatio => {
                let rejected = |seen: &Seen| {
                    matches!(seen.ending, Ending::Refused(429 | 503 | 529)) && seen.attempts == 0
                };
                ratio(self.count(over, rejected), self.count(over, |_| true))
            }
            Figure::DegradedRatio => {
                let degraded = self.count(over, |seen| is_answer(seen) && seen.degradation > 0);
                ratio(degraded, self.count(over, is_answer))
            }
            Figure::Goodput => {
                let all = self.of(over, |seen| seen.ended);
                let complete = all.filter(|seen| seen.ending == Ending::Complete).count();
                ratio(float(complete), self.length(over).as_secs_f64())
            }
            Figure::SilentTruncations => {
                Some(self.count(over, |seen| seen.ending == Ending::Silent))
            }
            Figure::CutStreams => Some(self.count(over, |seen| seen.ending == Ending::Cut)),
            Figure::CachedTokens => Some(self.tokens(over).1),
            Figure::CachedShare => {
                let (all, cached) = self.tokens(over);
                ratio(cached, all)
            }
            Figure::BusiestShare => self.busiest(over),
            Figure::InFlightAtEnd => {
                let gateway = self.metric(&series(IN_FLIGHT), self.record.end);
                Some(float(self.record.in_flight) + gateway.unwrap_or_default())
            }
            Figure::Metric(series) => self.growth(series, over),
            Figure::MetricValue(series) => self.metric(series, self.until(over)),
        }
    }

    /// Requests that a figure is about, by the time that `moment` picks.
    fn of<'s>(
        &'s self,
        over: &'s Selection,
        moment: impl Fn(&Seen) -> Duration + 's,
    ) -> impl Iterator<Item = &'s Seen> + 's {
        self.record.seen.iter().filter(move |seen| {
            let traffic = self.rehearsal.traffic.get(seen.traffic);
            over.holds(moment(seen))
                && traffic.is_some_and(|traffic| {
                    over.traffic.as_ref().is_none_or(|name| *name == traffic.name)
                        && over.priority.is_none_or(|wanted| Some(wanted) == traffic.priority)
                })
        })
    }

    fn count(&self, over: &Selection, is: impl Fn(&Seen) -> bool) -> f64 {
        float(self.of(over, |seen| seen.sent).filter(|seen| is(seen)).count())
    }

    fn success(&self, over: &Selection) -> Option<f64> {
        let calls = self.of(over, |seen| seen.began);
        let calls: Vec<&Seen> =
            calls.filter(|seen| seen.last && seen.ending != Ending::Left).collect();
        let good = calls.iter().filter(|seen| seen.ending == Ending::Complete).count();
        ratio(float(good), float(calls.len()))
    }

    fn upstream(&self, over: &Selection) -> f64 {
        let arrivals = self.record.arrivals.iter().filter(|arrival| over.holds(arrival.at));
        let name = |host: &str, model: &str| format!("{host}/{model}");
        let found = arrivals.filter(|arrival| over.is_target(&name(&arrival.host, &arrival.model)));
        float(found.count())
    }

    /// Tokens of prompts, and those of them that were cached.
    fn tokens(&self, over: &Selection) -> (f64, f64) {
        let name = |bill: &Bill| format!("{}/{}", bill.host, bill.model);
        let bills = self.record.bills.iter().filter(|bill| over.is_target(&name(bill)));
        bills.fold((0.0, 0.0), |(all, cached), bill| {
            let usage = &bill.usage;
            (all + float(usage.total_input()), cached + float(usage.cached_input))
        })
    }

    fn busiest(&self, over: &Selection) -> Option<f64> {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for arrival in self.record.arrivals.iter().filter(|arrival| over.holds(arrival.at)) {
            *counts.entry((&arrival.host, &arrival.model)).or_default() += 1;
        }
        let all: u64 = counts.values().sum();
        ratio(float(counts.into_values().max().unwrap_or_default()), float(all))
    }

    /// By the gateway's count where it has one, else by what replies say.
    fn hedges(&self, over: &Selection) -> Option<f64> {
        let requests = self.count(over, |_| true);
        let counted = self.growth(&series(HEDGES), over);
        ratio(counted.unwrap_or_else(|| self.count(over, |seen| seen.hedged)), requests)
    }

    fn growth(&self, series: &Series, over: &Selection) -> Option<f64> {
        let after = self.metric(series, self.until(over))?;
        // What is not counted yet is not there yet.
        Some(after - self.metric(series, over.from).unwrap_or_default())
    }

    /// The sum of a series at the first look at this time or later; `None` where it is not there.
    fn metric(&self, series: &Series, at: Duration) -> Option<f64> {
        let (_, text) = self.record.looks.iter().find(|(time, _)| *time >= at)?;
        let samples = text.lines().filter_map(|line| sample(series, line));
        samples.reduce(|sum, value| sum + value)
    }

    fn until(&self, over: &Selection) -> Duration {
        over.until.unwrap_or(self.record.end).min(self.record.end)
    }

    fn length(&self, over: &Selection) -> Duration {
        // Without an end it is that of the traffic: what comes after is only waited for.
        over.until.unwrap_or_else(|| self.rehearsal.end()).saturating_sub(over.from)
    }
}

/// Whether the client got an answer, however it ended.
fn is_answer(seen: &Seen) -> bool {
    match seen.ending {
        Ending::Complete | Ending::Cut | Ending::Silent => true,
        Ending::Left | Ending::Broken => seen.served_by.is_some(),
        Ending::Refused(_) => false,
    }
}

/// The value of a line of Prometheus' text format, where it belongs to the series.
fn sample(series: &Series, line: &str) -> Option<f64> {
    let rest = line.strip_prefix(&series.name)?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once('}')?,
        None => ("", rest.strip_prefix(' ')?),
    };
    let has = |(label, wanted): &(String, String)| {
        let pair = format!("{label}=\"{wanted}\"");
        labels == pair
            || labels.starts_with(&format!("{pair},"))
            || labels.ends_with(&format!(",{pair}"))
            || labels.contains(&format!(",{pair},"))
    };
    series.labels.iter().all(has).then(|| value.trim().parse().ok())?
}

fn series(name: &str) -> Series {
    Series { name: name.to_owned(), labels: Vec::new() }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// The smallest value that so many of all do not exceed.
fn percentile(times: impl Iterator<Item = Duration>, quantile: f64) -> Option<f64> {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into the list, from 0"
    )]
    let index = (float(times.len()) * quantile).ceil() as usize;
    times.get(index.saturating_sub(1)).map(Duration::as_secs_f64)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn float(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}
