<?php
// What a PHP page learns; values are percent-encoded so that every byte of them survives JSON.
header('Content-Type: application/json');
http_response_code((int) ($_GET['status'] ?? 200));
$server = array_filter($_SERVER, 'is_string');
echo json_encode([
    'user' => $_SERVER['REMOTE_USER'] ?? '',
    'name' => rawurldecode($_SERVER['HTTP_X_WECOM_NAME'] ?? ''),
    'password' => ($_SERVER['PHP_AUTH_USER'] ?? '') . ':' . ($_SERVER['PHP_AUTH_PW'] ?? ''),
    'length' => strlen(file_get_contents('php://input')),
    'environ' => array_map('rawurlencode', $server),
], JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR);
