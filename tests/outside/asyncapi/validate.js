// Reads an AsyncAPI document on stdin; prints what the parser finds, and what it understood, as one JSON object.
'use strict'
const { Parser } = require('@asyncapi/parser')

let text = ''
process.stdin.setEncoding('utf8')
process.stdin.on('data', (part) => { text += part })
process.stdin.on('end', async () => {
  const { document, diagnostics } = await new Parser().parse(text)
  const found = diagnostics.map((d) => ({ severity: d.severity, message: d.message, path: d.path.join('.') }))
  const channels = document ? document.channels().all().map((c) => c.address()) : []
  const operations = document ? document.operations().all().map((o) => o.id()) : []
  console.log(JSON.stringify({ diagnostics: found, channels, operations }))
})
