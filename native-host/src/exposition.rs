//! What is counted, in the text format of Prometheus (version 0.0.4).

use std::time::{SystemTime, UNIX_EPOCH};

use nodetool_edge_auth::Reason;
use prometheus::{
    Encoder, TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::metrics::{BOUNDS, Class, Dropped, Fetch, Lookup, Metrics, Question, Reload, Source, UpstreamError};

/// What is not counted, but is so at the moment.
pub(crate) struct Now {
    pub(crate) is_ready: bool,
    /// In seconds, if there are keys.
    pub(crate) key_age: Option<f64>,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

/// The whole page.
pub(crate) fn page(metrics: &Metrics, now: &Now) -> Vec<u8> {
    let mut page = Vec::with_capacity(16 * 1024);
    // Into memory nothing can fail but families without a metric, of which there are none.
    let _ = TextEncoder::new().encode(&families(metrics, now), &mut page);
    page
}

fn families(metrics: &Metrics, now: &Now) -> Vec<MetricFamily> {
    let mut all = vec![
        verdicts(metrics),
        answers(metrics),
        gauge("requests_in_flight", "Requests whose answers are not over.", metrics.sum(|part| part.in_flight.get()) as f64),
        gauge("connections_open", "Connections of clients, WebSockets apart.", metrics.sum(|part| part.connections.get()) as f64),
        gauge("websockets_open", "WebSockets that are passed through.", metrics.sum(|part| part.websockets.get()) as f64),
        upstream_times(metrics),
        family("upstream_errors_total", "Failures of the upstream, by kind.", MetricType::COUNTER).of(UpstreamError::ALL
            .iter()
            .map(|error| counted(&[("kind", error.word())], metrics.sum(|part| part.upstream_errors.get(*error))))),
        family(
            "token_cache_lookups_total",
            "Tokens of users that were looked up among those verified before.",
            MetricType::COUNTER,
        )
        .of(Lookup::ALL
            .iter()
            .map(|lookup| counted(&[("result", lookup.word())], metrics.sum(|part| part.lookups.get(*lookup))))),
        family("key_fetches_total", "Fetches of the Supabase project's keys, by outcome.", MetricType::COUNTER).of(Fetch::ALL
            .iter()
            .map(|fetch| counted(&[("outcome", fetch.word())], metrics.sum(|part| part.key_fetches.get(*fetch))))),
        family(
            "stale_key_uses_total",
            "Tokens checked with keys past their age, because newer ones could not be had.",
            MetricType::COUNTER,
        )
        .of([counted(&[], metrics.sum(|part| part.stale_keys.get(0_usize)))]),
        family("user_questions_total", "Questions to the Supabase project's user endpoint, by outcome.", MetricType::COUNTER).of(
            Question::ALL
                .iter()
                .map(|question| counted(&[("outcome", question.word())], metrics.sum(|part| part.questions.get(*question)))),
        ),
        family("token_file_reloads_total", "Times that the deployment file was read again, by outcome.", MetricType::COUNTER).of(
            Reload::ALL
                .iter()
                .map(|reload| counted(&[("outcome", reload.word())], metrics.sum(|part| part.reloads.get(*reload)))),
        ),
        family("log_lines_dropped_total", "Lines of the log that were left out, by cause.", MetricType::COUNTER).of(Dropped::ALL
            .iter()
            .map(|cause| counted(&[("cause", cause.word())], metrics.sum(|part| part.lines_dropped.get(*cause))))),
        gauge("ready", "1 if /readyz says 200.", f64::from(u8::from(now.is_ready))),
        family("build_info", "1, with the version.", MetricType::GAUGE)
            .of([measured(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)]),
        named("process_start_time_seconds", "When the process started, in seconds since 1970.", MetricType::GAUGE)
            .of([measured(&[], since_epoch(metrics.started))]),
    ];
    all.extend(
        now.key_age.map(|age| gauge("key_age_seconds", "Time since the keys in use were fetched; absent without any.", age)),
    );
    all
}

fn verdicts(metrics: &Metrics) -> MetricFamily {
    let passed = counted(&[("verdict", "pass"), ("reason", "none")], metrics.sum(|part| part.passed.get(0_usize)));
    let refused = Reason::ALL.into_iter().map(|reason| {
        counted(&[("verdict", "refuse"), ("reason", reason.code())], metrics.sum(|part| part.refused.get(reason as usize)))
    });
    family("verdicts_total", "Judgements of requests, by why they were refused.", MetricType::COUNTER)
        .of([passed].into_iter().chain(refused))
}

fn answers(metrics: &Metrics) -> MetricFamily {
    let each = Source::ALL.iter().flat_map(|source| Class::ALL.iter().map(move |class| (source, class)));
    family("requests_total", "Answered requests, by status and by who made the answer.", MetricType::COUNTER).of(each.map(
        |(source, class)| {
            let count = metrics.sum(|part| part.answers.get(usize::from(*source)).map_or(0, |classes| classes.get(*class)));
            counted(&[("status", class.word()), ("source", source.word())], count)
        },
    ))
}

fn upstream_times(metrics: &Metrics) -> MetricFamily {
    let mut count = 0;
    let mut buckets = Vec::with_capacity(BOUNDS.len());
    for (index, bound) in BOUNDS.into_iter().enumerate() {
        count += metrics.sum(|part| part.upstream_times.buckets.get(index));
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        buckets.push(bucket);
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(count + metrics.sum(|part| part.upstream_times.buckets.get(BOUNDS.len())));
    histogram.set_sample_sum(metrics.sum(|part| part.upstream_times.sum()));
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    family("upstream_response_seconds", "From sending a request on to the first byte of its answer.", MetricType::HISTOGRAM)
        .of([metric])
}

fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::GAUGE).of([measured(&[], value)])
}

fn counted(labels: Labels<'_>, value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(labels.iter().map(pair).collect());
    metric.set_counter(counter);
    metric
}

fn measured(labels: Labels<'_>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels.iter().map(pair).collect());
    metric.set_gauge(gauge);
    metric
}

fn pair((name, value): &(&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name((*name).to_owned());
    pair.set_value((*value).to_owned());
    pair
}

/// A family of metrics, before its metrics.
struct Family(MetricFamily);

fn family(name: &str, help: &str, kind: MetricType) -> Family {
    named(&format!("nodetool_auth_{name}"), help, kind)
}

fn named(name: &str, help: &str, kind: MetricType) -> Family {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    Family(family)
}

impl Family {
    fn of(mut self, metrics: impl IntoIterator<Item = Metric>) -> MetricFamily {
        self.0.set_metric(metrics.into_iter().collect());
        self.0
    }
}

fn since_epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
