"""An order and the job that exports it, in one transaction: python3 place-order.py ORDER AMOUNT"""
import json
import os
import sys

import pymysql

order, amount = sys.argv[1], float(sys.argv[2])
shop = pymysql.connect(
    host=os.environ["DB_HOST"], port=int(os.environ["DB_PORT"]), user=os.environ["DB_USER"],
    password=os.environ["DB_PASSWORD"], database=os.environ["DB_NAME"], charset="utf8mb4",
)

try:
    shop.begin()
    with shop.cursor() as cursor:
        cursor.execute("INSERT INTO orders (id, amount) VALUES (%s, %s)", (order, amount))
        cursor.execute("INSERT INTO duly_job (name, params) VALUES (%s, %s)", ("export_order", json.dumps([order])))
        job = cursor.lastrowid
    if amount <= 0:
        raise ValueError(f"order {order} costs nothing")
    shop.commit()
except Exception as error:
    shop.rollback()         # the order is gone, and so is its job
    sys.exit(str(error))
print(f"job {job}")
