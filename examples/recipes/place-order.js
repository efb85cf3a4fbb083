// An order and the job that exports it, in one transaction: node place-order.js ORDER AMOUNT
// `mysql2` has the same functions as `mysql`.
const { promisify } = require('util');
const mysql = require('mysql');

async function main(order, amount) {
  const env = process.env;
  const shop = mysql.createConnection({
    host: env.DB_HOST, port: env.DB_PORT, user: env.DB_USER, password: env.DB_PASSWORD, database: env.DB_NAME,
    charset: 'utf8mb4',
  });
  const query = promisify(shop.query).bind(shop);
  try {
    await query('START TRANSACTION');
    await query('INSERT INTO orders (id, amount) VALUES (?, ?)', [order, amount]);
    const job = await query('INSERT INTO duly_job (name, params) VALUES (?, ?)', ['export_order', JSON.stringify([order])]);
    if (amount <= 0) {
      throw new Error(`order ${order} costs nothing`);
    }
    await query('COMMIT');
    console.log(`job ${job.insertId}`);
  } catch (error) {
    await query('ROLLBACK');    // the order is gone, and so is its job
    console.error(error.message);
    process.exitCode = 1;
  } finally {
    shop.end();
  }
}

main(process.argv[2], Number(process.argv[3]));
