package savedmodel_test

import (
	"context"
	"fmt"

	"inceptor/savedmodel"
)

// Inspect a model without TensorFlow's library.
func ExampleInspect() {
	info, err := savedmodel.Inspect("testdata/tiny")
	if err != nil {
		fmt.Println(err)
		return
	}
	graph, _ := info.Graph("serve")
	signature := graph.Signatures["serving_default"]
	fmt.Println("complete:", info.Complete)
	fmt.Println("takes features:", signature.Inputs["features"].DType, signature.Inputs["features"].Shape)
	fmt.Println("gives scores:", signature.Outputs["scores"].DType, signature.Outputs["scores"].Shape)
	// Output:
	// complete: true
	// takes features: float32 [N, 4]
	// gives scores: float32 [N, 3]
}

// Load a model once, then run it as often as needed. This needs TensorFlow's library.
func ExampleLoad() {
	model, err := savedmodel.Load(context.Background(), "testdata/tiny", savedmodel.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer model.Close()
	classify, err := model.SignatureFunction("serving_default", []string{"features"}, []string{"scores"})
	if err != nil {
		fmt.Println(err)
		return
	}

	features, err := savedmodel.NewTensor(savedmodel.Float32, 1, 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer features.Close()
	values, err := savedmodel.Data[float32](features)
	if err != nil {
		fmt.Println(err)
		return
	}
	copy(values, []float32{0.1, 0.2, 0.3, 0.4})

	outputs, err := classify.Run(context.Background(), features)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer outputs[0].Close()
	scores, err := savedmodel.Data[float32](outputs[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.3f\n", scores)
	// Output:
	// [0.154 0.154 0.691]
}
