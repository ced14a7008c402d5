package service

import "testing"

// An address that the cluster names is not in kafka.brokers, so advice about that would mislead.
func TestAdvertisedAdvice(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{
			"connection refused: start the broker, or name another address in kafka.brokers",
			"connection refused: mend the broker's advertised.listeners, or let this machine reach it",
		},
		{
			"its name b cannot be resolved (no such host): check kafka.brokers and the DNS",
			"its name b cannot be resolved (no such host): mend the broker's advertised.listeners, or let this machine reach it",
		},
		{
			"its certificate is not valid: it has expired: renew it",
			"its certificate is not valid: it has expired: renew it; or mend the broker's advertised.listeners",
		},
	} {
		if got := advertisedAdvice(test.text); got != test.want {
			t.Errorf("%s\nbecame %s\nwant   %s", test.text, got, test.want)
		}
	}
}
