package remote

import (
	"testing"

	"inceptor/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
