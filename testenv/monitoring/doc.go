// Package monitoring tests the dashboard in deploy/grafana and the alerts in deploy/prometheus with
// Prometheus' own parser and engine, on the metrics of a running service. It is a module of its
// own, so that the program does not depend on them.
package monitoring
