<?php
// Does one job of DJJob that djjob.sql has carried over: php run-djjob.php ID. An exception is a failed attempt, which
// Duly tries again after its back-off; the row goes once the job has been done.
require getenv('SHOP_AUTOLOAD') ?: __DIR__ . '/vendor/autoload.php';

$id = $argv[1];
$shop = new PDO(
    sprintf('mysql:host=%s;port=%s;dbname=%s;charset=utf8mb4', getenv('DB_HOST'), getenv('DB_PORT'), getenv('DB_NAME')),
    getenv('DB_USER'),
    getenv('DB_PASSWORD'),
    [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION],
);
$row = $shop->prepare("SELECT handler FROM jobs WHERE id = ? AND locked_by = 'duly'");
$row->execute([$id]);
$handler = $row->fetchColumn();
if ($handler === false) {
    exit(0);    // done by an earlier attempt, whose end was not recorded
}
$job = @unserialize($handler);
if (!is_object($job) || !method_exists($job, 'perform')) {
    fwrite(STDERR, "job $id holds no object that can be performed\n");
    exit(65);   // permanent_exit_codes: [65]
}
$job->perform();
$shop->prepare('DELETE FROM jobs WHERE id = ?')->execute([$id]);
