// Command tickwire is the whole platform in one program; its subcommands are the processes.
package main

func main() {}
