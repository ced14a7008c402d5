// Package wire makes the connections to the brokers, with TLS and the client's side of SASL.
//
// The connections keep to the brokers' quotas, remember which brokers are silent, and can be closed
// under a client that waits.
package wire
