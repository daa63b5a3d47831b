// Sends a text over a WebSocket with permessage-deflate and prints what comes back.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"nhooyr.io/websocket"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, answer, err := websocket.Dial(ctx, os.Args[1], nil)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(answer.Header.Get("Sec-WebSocket-Extensions"))
	for _, text := range []string{"small", strings.Repeat("large ", 1000), strings.Repeat("large ", 1000)} {
		if err = conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_, echo, err := conn.Read(ctx)
		if err != nil || string(echo) != text {
			fmt.Println("no echo:", err)
			os.Exit(1)
		}
	}
	conn.Close(websocket.StatusNormalClosure, "")
}
