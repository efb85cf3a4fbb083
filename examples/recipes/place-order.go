// An order and the job that exports it, in one transaction: go run place-order.go ORDER AMOUNT
package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/go-sql-driver/mysql"
)

func placeOrder(shop *sql.DB, order string, amount float64) (int64, error) {
	tx, err := shop.Begin()
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // does nothing after a commit; else the order is gone, and so is its job
	if _, err := tx.Exec("INSERT INTO orders (id, amount) VALUES (?, ?)", order, amount); err != nil {
		return 0, err
	}
	params, err := json.Marshal([]string{order})
	if err != nil {
		return 0, err
	}
	result, err := tx.Exec("INSERT INTO duly_job (name, params) VALUES (?, ?)", "export_order", string(params))
	if err != nil {
		return 0, err
	}
	if amount <= 0 {
		return 0, fmt.Errorf("order %s costs nothing", order)
	}
	job, err := result.LastInsertId()
	if err != nil {
		return 0, err
	}
	return job, tx.Commit()
}

func main() {
	log.SetFlags(0)
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", os.Getenv("DB_HOST")+":"+os.Getenv("DB_PORT")
	config.User, config.Passwd, config.DBName = os.Getenv("DB_USER"), os.Getenv("DB_PASSWORD"), os.Getenv("DB_NAME")
	shop, err := sql.Open("mysql", config.FormatDSN())
	if err != nil {
		log.Fatal(err)
	}
	defer shop.Close()
	amount, err := strconv.ParseFloat(os.Args[2], 64)
	if err != nil {
		log.Fatal(err)
	}
	job, err := placeOrder(shop, os.Args[1], amount)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("job", job)
}
