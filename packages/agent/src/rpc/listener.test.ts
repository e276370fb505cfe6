import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type HttpListener, silentLogger, systemClock } from '@roost/base'
import type { MachineId } from '@roost/core'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { LogKeeper } from '../log/machine-logs.ts'
import { createAgentListener } from './listener.ts'

const id = '3d8d0000000001' as MachineId
const open: { dir: string; logs?: LogKeeper; listener?: HttpListener; url: string } = {
  dir: '',
  url: '',
}

beforeEach(async () => {
  open.dir = mkdtempSync(join(tmpdir(), 'roost-rpc-'))
  for (const name of ['raw', 'store']) mkdirSync(join(open.dir, name))
  const parts = { region: 'ams', host: 'h1', clock: systemClock, log: silentLogger }
  const dirs = { rawDir: join(open.dir, 'raw'), storeDir: join(open.dir, 'store') }
  open.logs = new LogKeeper({ ...dirs, ...parts })
  open.logs.start()
  open.listener = createAgentListener({
    logs: open.logs,
    health: async () => ({ host: 'h1' }),
    clock: systemClock,
    log: silentLogger,
  })
  const [at] = await open.listener.listen([{ address: '127.0.0.1', port: 0 }])
  open.url = `http://127.0.0.1:${at?.port}/agent/v1`
})
afterEach(async () => {
  await open.listener?.close(100)
  await open.logs?.stop()
  rmSync(open.dir, { recursive: true })
})

async function lines(query: string): Promise<{ message?: string; timestamp?: string }[]> {
  const reply = await fetch(`${open.url}/machines/${id}/logs?${query}`)
  expect(reply.status).toBe(200)
  const text = await reply.text()
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

test('logs are lines of JSON: so many, or those after a time', async () => {
  writeFileSync(open.logs?.file(id) ?? '', 'one\ntwo\nthree\n')
  await vi.waitFor(async () => expect(await lines('')).toHaveLength(3), { timeout: 5000 })
  expect((await lines('lines=2')).map(({ message }) => message)).toEqual(['two', 'three'])
  const [first] = await lines('')
  expect(first).toMatchObject({ message: 'one', machine: id, region: 'ams', host: 'h1' })
  expect(await lines(`after=${first?.timestamp ?? ''}`)).toEqual(
    (await lines('')).filter(({ timestamp }) => (timestamp ?? '') > (first?.timestamp ?? '')),
  )
})

test('a follower is told when that was all there was', async () => {
  writeFileSync(open.logs?.file(id) ?? '', 'one\n')
  await vi.waitFor(async () => expect(await lines('')).toHaveLength(1), { timeout: 5000 })
  const reply = await fetch(`${open.url}/machines/${id}/logs?follow=true`)
  const reader = reply.body?.getReader()
  let text = ''
  while (!text.includes('{}\n')) text += Buffer.from((await reader?.read())?.value ?? []).toString()
  expect(text).toContain('"message":"one"')
  await reader?.cancel()
})

test('a machine that never said anything, and a question that makes no sense', async () => {
  const asked = await Promise.all(
    [
      `machines/${id}/logs`,
      'machines/..%2f..%2fx/logs',
      `machines/${id}/logs?lines=-1`,
      'health',
    ].map(async (path) => (await fetch(`${open.url}/${path}`)).status),
  )
  expect(asked).toEqual([404, 404, 400, 200])
})
