import { expect, test } from 'vitest'
import { namedMachines } from './internal-name.ts'

const ANY = { app: null, machine: null, region: null, group: null, address: null }

test.each([
  ['3d8d9014b51089', { machine: '3d8d9014b51089' }],
  ['shop.internal', { app: 'shop' }],
  ['Shop.Internal.', { app: 'shop' }],
  ['global.shop.internal', { app: 'shop' }],
  ['ams.shop.internal', { app: 'shop', region: 'ams' }],
  ['3d8d9014b51089.vm.shop.internal', { app: 'shop', machine: '3d8d9014b51089' }],
  ['worker.process.shop.internal', { app: 'shop', group: 'worker' }],
  ['top3.nearest.of.shop.internal', { app: 'shop' }],
  ['fdaa:0:1::2', { address: 'fdaa:0:1::2' }],
  ['[fdaa:0:1::2]', { address: 'fdaa:0:1::2' }],
  ['10.210.4.2', { address: '10.210.4.2' }],
])('%s names machines', (text, named) => {
  expect(namedMachines(text)).toEqual({ ...ANY, ...named })
})

test.each(['', 'shop', 'internal', '.internal', 'example.com', 'a.b.c.shop.internal'])(
  '%j names none',
  (text) => {
    expect(namedMachines(text)).toBeNull()
  },
)
