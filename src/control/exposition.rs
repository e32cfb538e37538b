//! The two text formats for metrics. The encoder writes OpenMetrics. Prometheus' own text format, which more
//! tools read, differs in a few lines.

use axum::http::{HeaderMap, header};

/// A text format for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposition {
    /// Prometheus' text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// The format that the `Accept` header asks for: OpenMetrics if it is named and preferred no less than
    /// plain text.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let quality = |name: &str| {
            let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let ranges = values.flat_map(|value| value.split(','));
            ranges.filter_map(|range| quality_of(range, name)).fold(0.0, f32::max)
        };
        let open_metrics = quality("application/openmetrics-text");
        if open_metrics > 0.0 && open_metrics >= quality("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Converts OpenMetrics text to this format.
    pub(super) fn of(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Prometheus => prometheus(&open_metrics),
        }
    }
}

/// The weight of a media range of an `Accept` header, if it matches this type.
fn quality_of(range: &str, media_type: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(media_type) {
        return None;
    }
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some(quality.map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0)))
}

/// In Prometheus' format a family has the name of its samples: with `_total` for counters, and with `_info`
/// for information, which is a gauge there. There is no unit line and no end line.
fn prometheus(open_metrics: &str) -> String {
    let mut page = String::with_capacity(open_metrics.len() + (4 << 10));
    // The help comes before the type, which says how the family is called.
    let mut help = None;
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), text) => help = Some(text.unwrap_or_default()),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                let help = help.take().unwrap_or_default();
                for part in ["# HELP ", name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", kind, "\n"] {
                    page.push_str(part);
                }
            }
            (Some("#"), ..) => {}
            _ => {
                page.push_str(line);
                page.push('\n');
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_is_asked_for() {
        for (accept, wanted) in [
            (None, Exposition::Prometheus),
            (Some("*/*"), Exposition::Prometheus),
            (Some("text/plain"), Exposition::Prometheus),
            (Some("text/html,application/xhtml+xml"), Exposition::Prometheus),
            (Some("application/openmetrics-text"), Exposition::OpenMetrics),
            (Some("Application/OpenMetrics-Text; version=1.0.0"), Exposition::OpenMetrics),
            (Some("application/openmetrics-text;q=0"), Exposition::Prometheus),
            (Some("text/plain, application/openmetrics-text; q=0.5"), Exposition::Prometheus),
            // What Prometheus 2.42 sends.
            (
                Some(
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                     q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                Exposition::OpenMetrics,
            ),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(Exposition::wanted(&headers), wanted, "{accept:?}");
        }
    }

    #[test]
    fn families_are_named_as_their_samples_in_the_text_format() {
        let open_metrics = "# HELP a Things that happened.\n# TYPE a counter\na_total{x=\"# 1\"} 1\n\
                            # HELP b What is running.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                            # HELP c_seconds How long.\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds 2\n\
                            # EOF\n";
        let text = "# HELP a_total Things that happened.\n# TYPE a_total counter\na_total{x=\"# 1\"} 1\n\
                    # HELP b_info What is running.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
                    # HELP c_seconds How long.\n# TYPE c_seconds gauge\nc_seconds 2\n";
        assert_eq!(Exposition::Prometheus.of(open_metrics.to_owned()), text);
        assert_eq!(Exposition::OpenMetrics.of(open_metrics.to_owned()), open_metrics);
    }
}
