module nhooyr

go 1.13

require nhooyr.io/websocket v1.8.6
