# An order and the job that exports it, in one transaction: ruby place-order.rb ORDER AMOUNT
require "json"
require "mysql2"

order, amount = ARGV[0], Float(ARGV[1])
shop = Mysql2::Client.new(
  host: ENV["DB_HOST"], port: ENV["DB_PORT"].to_i, username: ENV["DB_USER"],
  password: ENV["DB_PASSWORD"], database: ENV["DB_NAME"], encoding: "utf8mb4"
)

begin
  shop.query("START TRANSACTION")
  shop.prepare("INSERT INTO orders (id, amount) VALUES (?, ?)").execute(order, amount)
  shop.prepare("INSERT INTO duly_job (name, params) VALUES (?, ?)").execute("export_order", JSON.generate([order]))
  job = shop.last_id
  raise "order #{order} costs nothing" unless amount.positive?

  shop.query("COMMIT")
rescue StandardError => e
  shop.query("ROLLBACK")    # the order is gone, and so is its job
  abort(e.message)
end
puts "job #{job}"
