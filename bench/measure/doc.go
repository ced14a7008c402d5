// Package measure has what the benchmarks share: the photos, how they are sent,
// what /proc tells of processes and the machine, and medians.
package measure
