import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDatabase, silentLogger } from '@roost/base'
import { type MachineId, newRecord } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type KeptMachine, openRecordStore } from './record-store.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'roost-records-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const kept = { record: newRecord('00000000000001' as MachineId), statusSequence: 3, checks: [] }
const open = () => openRecordStore({ file: join(folder, 'machines.db'), log: silentLogger })

test('what is saved is there after a reopening, what is removed is not', () => {
  const first = open()
  first.save(kept)
  first.save({ ...kept, statusSequence: 4 })
  first.close()
  const second = open()
  expect(second.load()).toEqual([{ ...kept, statusSequence: 4 }])
  second.remove(kept.record.id)
  expect(second.load()).toEqual([])
  second.close()
})

test('a file that is broken is moved aside', () => {
  writeFileSync(join(folder, 'machines.db'), 'this is no database'.repeat(100))
  const store = open()
  expect(store.load()).toEqual([])
  store.close()
  expect(readdirSync(folder)).toContain('machines.db.broken')
})

test('what could not be written is written with the next write that works', () => {
  const file = join(folder, 'machines.db')
  const refuses = { writes: true }
  const store = openRecordStore({
    file,
    log: silentLogger,
    open: (path) => {
      // As on a full disk: neither made nor written.
      if (refuses.writes) throw Object.assign(new Error('disk I/O error'), { errcode: 4874 })
      return openDatabase(path)
    },
  })
  const machine = (id: string): KeptMachine => ({
    record: newRecord(id as MachineId),
    statusSequence: 1,
    checks: [],
  })
  store.save(machine('a'))
  store.save(machine('b'))
  store.remove('b' as MachineId)
  expect(store.load()).toEqual([])
  refuses.writes = false
  store.save(machine('c'))
  store.close()
  const again = openRecordStore({ file, log: silentLogger })
  expect(again.load().map(({ record }) => record.id)).toEqual(['a', 'c'])
  again.close()
})
