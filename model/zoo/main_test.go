//go:build !race

package zoo

import (
	"testing"

	"inceptor/model/internal/modeltest"
)

// Every model must free its goroutines and its native tensors.
func TestMain(m *testing.M) { modeltest.Main(m) }
