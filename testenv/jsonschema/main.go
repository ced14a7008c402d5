// Command jsonschema checks JSON values, one per line of standard input, against a JSON Schema of
// draft 2020-12. For each it prints a line: "ok", or what is wrong as a quoted string. It is a
// module of its own, so that the service does not depend on the validator.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: jsonschema SCHEMA <VALUES")
	}
	schema, err := jsonschema.NewCompiler().Compile(os.Args[1])
	if err != nil {
		fail(err)
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			fmt.Println(check(schema, line))
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			fail(err)
		}
	}
}

func check(schema *jsonschema.Schema, line []byte) string {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		return fmt.Sprintf("%q", err)
	}
	return "ok"
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, "jsonschema:", why)
	os.Exit(1)
}
