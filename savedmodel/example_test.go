package savedmodel_test

import (
	"context"
	"fmt"

	"inceptor/savedmodel"
)

// A model is looked at without TensorFlow.
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

// A model is loaded once and run many times. It needs TensorFlow's library.
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
	copy(values, []float32{1, 2, 3, 4})

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
	fmt.Println(scores)
}
