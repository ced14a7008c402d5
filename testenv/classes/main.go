// Command classes archives the classes of the tests' Kafka broker, so that brokers start faster:
// classes LIB, the folder with the broker's jars. See testenv.ArchiveClasses.
package main

import (
	"context"
	"fmt"
	"os"

	"inceptor/testenv"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: classes LIB")
		os.Exit(2)
	}
	if err := testenv.ArchiveClasses(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "classes:", err)
		os.Exit(1)
	}
}
