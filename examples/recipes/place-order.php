<?php
// An order and the job that exports it, in one transaction: php place-order.php ORDER AMOUNT
[, $order, $amount] = $argv;
$shop = new PDO(
    sprintf('mysql:host=%s;port=%s;dbname=%s;charset=utf8mb4', getenv('DB_HOST'), getenv('DB_PORT'), getenv('DB_NAME')),
    getenv('DB_USER'),
    getenv('DB_PASSWORD'),
    [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION],
);

$shop->beginTransaction();
try {
    $shop->prepare('INSERT INTO orders (id, amount) VALUES (?, ?)')->execute([$order, $amount]);
    $shop->prepare('INSERT INTO duly_job (name, params) VALUES (?, ?)')
        ->execute(['export_order', json_encode([$order])]);
    $job = $shop->lastInsertId();
    if ($amount <= 0) {
        throw new DomainException("order $order costs nothing");
    }
    $shop->commit();
} catch (Throwable $error) {
    $shop->rollBack();      // the order is gone, and so is its job
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(1);
}
echo "job $job\n";
