/**
 * Of a reply in lines: after so many seconds without a line comes an empty one, so that silence for longer means that the other
 * end is gone. Absent: this server says nothing while there is nothing to say.
 */
export const SIGNS_HEADER = 'roost-signs'
