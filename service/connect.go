package service

import (
	"log/slog"

	"inceptor/internal/host"
	"inceptor/service/stream"
)

// streamConfig returns the configuration of a driver. It opens the files that
// hold credentials; they are read again at each handshake.
func (c Config) streamConfig(log *slog.Logger, o stream.Observer, h *handler) (stream.Config, error) {
	k := c.Kafka
	tlsConfig, roots, err := k.TLS.open(log)
	if err != nil {
		return stream.Config{}, err
	}
	sasl, err := k.SASL.open(log)
	if err != nil {
		return stream.Config{}, err
	}
	return stream.Config{
		Brokers: k.Brokers, Group: k.Group, Inputs: k.Input, Outputs: c.outputs(),
		TLS: tlsConfig, Roots: roots, SASL: sasl, Compression: k.Compression,
		Session: k.SessionTimeout, Instance: k.InstanceID, Rack: k.Rack,
		Window:         c.window(),
		TotalBytes:     c.totalBytes(host.MemoryLimit),
		BatchBytes:     c.batchBytes(),
		ReplaceUnread:  h.replaceUnread(c.batchBytes()),
		Start:          k.Start,
		StopOnReset:    k.OnReset == "stop",
		DrainTimeout:   c.Shutdown.Timeout,
		ReplaceRefused: h.replaceRefused,
		OnFailure:      h.onFailure(k),
		Log:            log, Observer: o,
	}, nil
}
