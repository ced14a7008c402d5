package remote

import (
	"testing"

	"go.uber.org/goleak"
)

// Every test must give back its goroutines.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
