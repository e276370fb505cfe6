import { expect, test } from 'vitest'
import { occupiedPorts } from './occupied-ports.ts'

const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2
   2: 010112C6:10BE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3
   3: 010112C6:1F90 0202A8C0:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4`

test('only what listens where strangers come', () => {
  expect(occupiedPorts('tcp', TCP, '198.18.1.1').map(({ port }) => port)).toEqual([22, 4286])
})
