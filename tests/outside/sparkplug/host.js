// An outside Sparkplug host for the tests: MQTT by `mqtt`, payloads by `sparkplug-payload`, packets by `mqtt-packet`.
// Prints every message it hears as one JSON line; takes orders as JSON lines on stdin.
'use strict'
const mqtt = require('mqtt')
const packets = require('mqtt-packet')
const readline = require('readline')
const spb = require('sparkplug-payload').get('spBv1.0')
const Payload = require('sparkplug-payload/lib/sparkplugPayloadProto').org.eclipse.tahu.protobuf.Payload

const plain = (bytes) => Payload.toObject(Payload.decode(bytes), { longs: Number, oneofs: true, arrays: false })
const say = (object) => process.stdout.write(JSON.stringify(object) + '\n')
const client = mqtt.connect({
  host: '127.0.0.1', port: Number(process.argv[2]), protocolVersion: 5, reconnectPeriod: 100, clean: true
})

client.on('connect', () => client.subscribe('spBv1.0/#', { qos: 1 }, () => say({ ready: true })))
client.on('message', (topic, payload, packet) => {
  const told = { topic, qos: packet.qos, retain: packet.retain, at: Date.now() }
  if (topic.startsWith('spBv1.0/STATE/')) return say({ ...told, state: payload.toString() })
  try {
    told.payload = plain(payload)
    told.metrics = (spb.decodePayload(payload).metrics || []).map((m) => ({ name: m.name, type: m.type, value: m.value && m.value.toNumber ? m.value.toNumber() : m.value }))
  } catch (error) {
    told.error = String(error)
  }
  say(told)
})

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const order = JSON.parse(line)
  if (order.op === 'state') {
    client.publish(order.topic, JSON.stringify({ online: order.online, timestamp: order.timestamp }), { qos: 1, retain: true })
  } else if (order.op === 'command') {
    const bytes = spb.encodePayload({ timestamp: order.timestamp, metrics: order.metrics })
    client.publish(order.topic, Buffer.from(bytes), { qos: 0, retain: Boolean(order.retain) })
  } else if (order.op === 'packet') {
    const parser = packets.parser({ protocolVersion: order.version })
    parser.on('packet', (p) => {
      const will = p.will && { topic: p.will.topic, qos: p.will.qos, retain: p.will.retain, payload: plain(p.will.payload) }
      say({ packet: p.cmd, clean: p.clean, version: p.protocolVersion, properties: p.properties, will, reason: p.reasonCode, subscriptions: p.subscriptions, topic: p.topic, qos: p.qos, retain: p.retain })
    })
    parser.parse(Buffer.from(order.hex, 'hex'))
    say({ parsed: order.tag })
  }
}).on('close', () => client.end(true, () => process.exit(0)))
