package infer

import (
	"fmt"
	"os"
	"testing"

	"inceptor/model/internal/modeltest"
)

func TestMain(m *testing.M) {
	if by := os.Getenv(childEnv); by != "" {
		if err := runDecodeChild(by); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	modeltest.Main(m)
}
