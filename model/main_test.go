package model

import (
	"testing"

	"inceptor/model/internal/modeltest"
)

func TestMain(m *testing.M) { modeltest.Main(m) }
